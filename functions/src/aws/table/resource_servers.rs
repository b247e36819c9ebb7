//! The credentials of resource servers, in the state table.
//!
//! One item has all of them, with a version that counts the changes. Each credential also has an item of its own, which a
//! request reads by its key. One transaction writes both (decision record 0019).

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use identity::store::StoreError;
use identity::store::resource_servers::{
    Credential, ResourceServerId, ResourceServerWriter, ResourceServers, ResourceServersWriteOutcome,
};
use time::OffsetDateTime;

use super::Table;
use super::item::{Item, ItemKey, integer, number, text};

impl Table {
    pub(super) fn resource_server_key(&self, id: &ResourceServerId) -> ItemKey {
        self.state_key(format!("resource-server#{id}"))
    }

    fn resource_servers_key(&self) -> ItemKey {
        self.state_key("resource-servers#all".to_owned())
    }

    /// The put of the item with all credentials, if the stored version is the one before.
    fn resource_servers_put(&self, next: &ResourceServers) -> Result<Put, StoreError> {
        let mut item = self.resource_servers_key().attributes();
        item.insert("version".to_owned(), number(next.version));
        item.insert("credentials".to_owned(), json(&next.credentials)?);
        let put = Put::builder().table_name(&self.state).set_item(Some(item));
        let put = match next.version.saturating_sub(1) {
            0 => put.condition_expression("attribute_not_exists(pk)"),
            previous => put
                .condition_expression("version = :previous")
                .expression_attribute_values(":previous", number(previous)),
        };
        put.build().map_err(|_| StoreError::Corrupt("credentials without an item"))
    }

    /// The put of the item of one resource server. The item of a removed one has no secret, and DynamoDB deletes it.
    fn resource_server_put(
        &self,
        id: &ResourceServerId,
        credential: Option<&Credential>,
        now: OffsetDateTime,
    ) -> Result<Put, StoreError> {
        let mut item = self.resource_server_key(id).attributes();
        item.insert("credential".to_owned(), json(&credential.cloned().unwrap_or_default())?);
        if credential.is_none() {
            item.insert("expires_at".to_owned(), number(now.unix_timestamp()));
        }
        let put = Put::builder().table_name(&self.state).set_item(Some(item));
        put.build().map_err(|_| StoreError::Corrupt("a credential without an item"))
    }
}

#[async_trait]
impl ResourceServerWriter for Table {
    async fn resource_servers(&self) -> Result<ResourceServers, StoreError> {
        let key = self.resource_servers_key();
        let found = self.batch(std::slice::from_ref(&key)).await?;
        let Some(item) = found.item(&key) else { return Ok(ResourceServers::default()) };
        Ok(ResourceServers { version: integer(item, "version")?, credentials: parsed(item, "credentials")? })
    }

    async fn write_resource_servers(
        &self,
        next: &ResourceServers,
        changed: &ResourceServerId,
        now: OffsetDateTime,
    ) -> Result<ResourceServersWriteOutcome, StoreError> {
        let all = self.resource_servers_put(next)?;
        let own = self.resource_server_put(changed, next.credentials.get(changed), now)?;
        let puts = [all, own].map(|put| TransactWriteItem::builder().put(put).build());
        match self.transact(puts.into()).await? {
            Ok(()) => Ok(ResourceServersWriteOutcome::Changed),
            Err(_failed_condition) => Ok(ResourceServersWriteOutcome::Conflict),
        }
    }
}

pub(super) fn credential_of(item: &Item) -> Result<Credential, StoreError> {
    parsed(item, "credential")
}

fn json(value: &impl serde::Serialize) -> Result<AttributeValue, StoreError> {
    let text =
        serde_json::to_string(value).map_err(|_| StoreError::Corrupt("credentials that are no JSON"))?;
    Ok(AttributeValue::S(text))
}

fn parsed<T: serde::de::DeserializeOwned>(item: &Item, name: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text(item, name)?).map_err(|_| StoreError::Corrupt(name))
}
