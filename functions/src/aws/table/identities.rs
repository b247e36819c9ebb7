//! The records of identities and of custom ids, in the state table.
//!
//! An identity with a custom id is written and deleted together with the record of the custom id, in one transaction
//! (decision record 0015).

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::builders::{PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use identity::ids::RawId;
use identity::store::custom_ids::{CustomId, CustomIdKey, CustomIdState, Profile};
use identity::store::{CreateOutcome, CreationId, IdentityState, NewIdentity, Revision, StoreError};
use time::OffsetDateTime;

use super::Table;
use super::assignments::is_failed_condition;
use super::item::{Item, ItemKey, integer, number, text};
use crate::aws::AwsFault;

/// The start of the partition key of an identity. Its raw id follows.
pub const IDENTITY_PREFIX: &str = "identity#";

const LIVE: &str = "live";
const DELETED: &str = "deleted";

/// Deletes an identity. The tombstone has no personal data.
const BURY: &str = "SET #state = :deleted, expires_at = :until REMOVE custom_id, last_token_issued_at";
const IS_LIVE: &str = "#state = :live";

/// The outcome of a conditional update.
pub(super) enum Updated {
    Done,
    /// The condition failed over this state.
    Refused(IdentityState),
}

impl Table {
    pub(super) fn identity_key(&self, identity: &RawId) -> ItemKey {
        self.state_key(format!("{IDENTITY_PREFIX}{identity}"))
    }

    /// The present states of identities, in the order of `ids`.
    ///
    /// # Errors
    /// [`StoreError`] when the table cannot be read.
    pub async fn identity_states(&self, ids: &[RawId]) -> Result<Vec<IdentityState>, StoreError> {
        let keys: Vec<_> = ids.iter().map(|id| self.identity_key(id)).collect();
        let found = self.batch(&keys).await?;
        keys.iter().map(|key| identity_state(found.item(key))).collect()
    }

    pub(super) fn custom_id_key(&self, key: CustomIdKey) -> ItemKey {
        self.state_key(format!("custom-id#{}", key.to_hex()))
    }

    pub(super) async fn create_identity(
        &self,
        new: &NewIdentity,
        now: OffsetDateTime,
    ) -> Result<CreateOutcome, StoreError> {
        let item = self.new_item(new, now);
        if let Some(record) = self.custom_id_put(new)? {
            let identity = put_if(item, &self.state, NO_RECORD).build();
            let record = TransactWriteItem::builder().put(build(record.build())?).build();
            let identity = TransactWriteItem::builder().put(build(identity)?).build();
            let Err(reasons) = self.transact(vec![identity, record]).await? else {
                return Ok(CreateOutcome::Created);
            };
            let reason = reasons.first().filter(|reason| is_failed_condition(reason));
            return outcome_over(reason.and_then(|reason| reason.item.as_ref()), new);
        }
        let put = self
            .client
            .put_item()
            .table_name(&self.state)
            .set_item(Some(item))
            .condition_expression(NO_RECORD)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = put.send().await else { return Ok(CreateOutcome::Created) };
        let fault = AwsFault::of("PutItem", &error);
        match error.into_service_error() {
            PutItemError::ConditionalCheckFailedException(failed) => outcome_over(failed.item.as_ref(), new),
            _ => Err(StoreError::Unavailable(fault)),
        }
    }

    fn new_item(&self, new: &NewIdentity, now: OffsetDateTime) -> Item {
        let mut item = self.identity_key(&new.id).attributes();
        let mut set = |name: &str, value| drop(item.insert(name.to_owned(), value));
        set("state", AttributeValue::S(LIVE.to_owned()));
        set("revision", number(Revision::FIRST.get()));
        set("creation", AttributeValue::S(new.creation.to_string()));
        set("created_at", number(now.unix_timestamp()));
        if let Some(profile) = &new.profile {
            set("last_token_issued_at", number(profile.last_token_issued_at.unwrap_or(NO_TOKEN)));
            if let Some(custom_id) = &profile.custom_id {
                set("custom_id", AttributeValue::S(custom_id.expose().to_owned()));
            }
        }
        item
    }

    /// The put of the custom id's record. `None` if the new identity has no custom id.
    fn custom_id_put(&self, new: &NewIdentity) -> Result<Option<PutBuilder>, StoreError> {
        let custom_id = new.profile.as_ref().and_then(|profile| profile.custom_id.as_ref());
        let Some(custom_id) = custom_id else { return Ok(None) };
        let mut item = self.custom_id_key(key_of(&new.id, custom_id)?).attributes();
        item.insert("identity".to_owned(), AttributeValue::S(new.id.to_string()));
        item.insert("creation".to_owned(), AttributeValue::S(new.creation.to_string()));
        let put = match new.last_creation {
            None => put_if(item, &self.state, NO_RECORD),
            Some(last) => put_if(item, &self.state, "creation = :last AND attribute_not_exists(#identity)")
                .expression_attribute_names("#identity", "identity")
                .expression_attribute_values(":last", AttributeValue::S(last.to_string())),
        };
        Ok(Some(put))
    }

    pub(super) async fn delete_identity(
        &self,
        identity: &RawId,
        custom_id: Option<&CustomId>,
        until: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let deleted = AttributeValue::S(DELETED.to_owned());
        let until = number(until.unix_timestamp());
        if let Some(custom_id) = custom_id {
            let bury = Update::builder()
                .table_name(&self.state)
                .set_key(Some(self.identity_key(identity).attributes()))
                .update_expression(BURY)
                .condition_expression(IS_LIVE)
                .expression_attribute_names("#state", "state")
                .expression_attribute_values(":live", AttributeValue::S(LIVE.to_owned()))
                .expression_attribute_values(":deleted", deleted.clone())
                .expression_attribute_values(":until", until.clone());
            let free = self.free_update(key_of(identity, custom_id)?, identity, &until);
            let updates = [bury.build(), free.build()]
                .map(|update| Ok(TransactWriteItem::builder().update(build(update)?).build()));
            if self.transact(updates.into_iter().collect::<Result<_, StoreError>>()?).await?.is_ok() {
                return Ok(());
            }
            // Another attempt has deleted the identity. A damaged record of the custom id must not prevent a deletion.
        }
        self.update(identity, BURY, IS_LIVE, [(":deleted", deleted), (":until", until)]).await?;
        Ok(())
    }

    /// The update that makes the record of a custom id free, if it names this identity.
    fn free_update(&self, custom_id: CustomIdKey, identity: &RawId, until: &AttributeValue) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.state)
            .set_key(Some(self.custom_id_key(custom_id).attributes()))
            .update_expression("SET expires_at = :until REMOVE #identity")
            .condition_expression("#identity = :id")
            .expression_attribute_names("#identity", "identity")
            .expression_attribute_values(":id", AttributeValue::S(identity.to_string()))
            .expression_attribute_values(":until", until.clone())
    }

    pub(super) async fn free_custom_id_record(
        &self,
        custom_id: CustomIdKey,
        deleted: &RawId,
        until: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let free = self.free_update(custom_id, deleted, &number(until.unix_timestamp()));
        // If the condition fails, the record does not name the identity any more.
        let _freed =
            self.transact(vec![TransactWriteItem::builder().update(build(free.build())?).build()]).await?;
        Ok(())
    }

    /// The expressions name no attribute but this one, so the policy of the function can allow this one only.
    pub(super) async fn update_last_token(&self, identity: &RawId, issued_at: i64) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.state)
            .set_key(Some(self.identity_key(identity).attributes()))
            .update_expression("SET last_token_issued_at = :at")
            .condition_expression("last_token_issued_at < :at")
            .expression_attribute_values(":at", number(issued_at));
        let Err(error) = update.send().await else { return Ok(()) };
        let fault = AwsFault::of("UpdateItem", &error);
        match error.into_service_error() {
            // A later token came first, or the identity was deleted.
            UpdateItemError::ConditionalCheckFailedException(_) => Ok(()),
            _ => Err(StoreError::Unavailable(fault)),
        }
    }

    pub(super) async fn update<const N: usize>(
        &self,
        identity: &RawId,
        change: &str,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> Result<Updated, StoreError> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.state)
            .set_key(Some(self.identity_key(identity).attributes()))
            .update_expression(change)
            .condition_expression(condition)
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":live", AttributeValue::S(LIVE.to_owned()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, value) in values {
            update = update.expression_attribute_values(name, value);
        }
        let Err(error) = update.send().await else {
            return Ok(Updated::Done);
        };
        let fault = AwsFault::of("UpdateItem", &error);
        match error.into_service_error() {
            UpdateItemError::ConditionalCheckFailedException(failed) => {
                let state = identity_state(failed.item.as_ref())?;
                Ok(Updated::Refused(state))
            }
            _ => Err(StoreError::Unavailable(fault)),
        }
    }
}

const NO_RECORD: &str = "attribute_not_exists(pk)";

/// `last_token_issued_at` of an identity that never had a token.
const NO_TOKEN: i64 = 0;

fn put_if(item: Item, table: &str, condition: &str) -> PutBuilder {
    Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(condition)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

fn build<T, E>(built: Result<T, E>) -> Result<T, StoreError> {
    built.map_err(|_| StoreError::Corrupt("a write without attributes"))
}

fn key_of(identity: &RawId, custom_id: &CustomId) -> Result<CustomIdKey, StoreError> {
    let resource = identity.resource().ok_or(StoreError::Corrupt("custom_id"))?;
    Ok(custom_id.key(resource))
}

/// The outcome of a creation that met this record of its id.
fn outcome_over(stored: Option<&Item>, new: &NewIdentity) -> Result<CreateOutcome, StoreError> {
    let stored = stored.map(|item| text(item, "creation")).transpose()?;
    let is_ours = stored == Some(new.creation.to_string().as_str());
    Ok(if is_ours { CreateOutcome::Created } else { CreateOutcome::Taken })
}

pub(super) fn identity_state(item: Option<&Item>) -> Result<IdentityState, StoreError> {
    let Some(item) = item else { return Ok(IdentityState::Absent) };
    match text(item, "state")? {
        LIVE => Ok(IdentityState::Live(Revision::new(integer(item, "revision")?))),
        DELETED => Ok(IdentityState::Deleted),
        _ => Err(StoreError::Corrupt("state")),
    }
}

pub(super) fn profile(item: &Item) -> Result<Option<Profile>, StoreError> {
    if !item.contains_key("last_token_issued_at") {
        return Ok(None);
    }
    let issued_at = integer(item, "last_token_issued_at")?;
    let custom_id = item.get("custom_id").map(|_| text(item, "custom_id")).transpose()?;
    let custom_id = custom_id.map(|text| text.parse().map_err(|_| StoreError::Corrupt("custom_id")));
    let last_token_issued_at = (issued_at != NO_TOKEN).then_some(issued_at);
    Ok(Some(Profile { custom_id: custom_id.transpose()?, last_token_issued_at }))
}

pub(super) fn custom_id_state(item: &Item) -> Result<CustomIdState, StoreError> {
    if item.contains_key("identity") {
        let identity = text(item, "identity")?.parse().map_err(|_| StoreError::Corrupt("identity"))?;
        return Ok(CustomIdState::Names(identity));
    }
    let creation: Result<CreationId, _> = text(item, "creation")?.parse();
    creation.map(Some).map(CustomIdState::Free).map_err(|_| StoreError::Corrupt("creation"))
}
