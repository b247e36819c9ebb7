//! The ports in memory, for tests: store, pointer and secret store, with planned faults.
//!
//! A fault applies to one call, before its effect or after it (the answer is lost). A write can also be delayed and
//! delivered later, as a network may deliver an attempt that timed out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ids::RawId;
use crate::keys::pointer::Pointer;
use crate::secrets::Secret;
use crate::secrets::VersionId;
use crate::secrets::{
    MoveOutcome, PutOutcome, SecretName, SecretStore, SecretStoreError, SecretStoreWriter, StagingLabel,
    StagingLabels,
};
use crate::store::assignments::{
    AssignmentChange, AssignmentKey, AssignmentPage, AssignmentRecord, AssignmentWriteOutcome,
};
use crate::store::custom_ids::{CustomId, CustomIdKey, CustomIdState, Profile};
use crate::store::feed::{Batch, Cursor, End, Feed, FeedPage, MAX_BATCH, Reading};
use crate::store::resource_servers::{
    ResourceServerId, ResourceServerWriter, ResourceServers, ResourceServersWriteOutcome,
};
use crate::store::{
    CreateOutcome, CreationId, IdentityState, NewIdentity, PointerWriteOutcome, PointerWriter, ReadRequest,
    Revision, Revocation, Snapshot, Store, StoreError,
};

/// The whole state of a resource, in memory.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    identities: HashMap<String, Record>,
    custom_ids: HashMap<CustomIdKey, CustomIdState>,
    pointer: Option<Pointer>,
    resource_servers: ResourceServers,
    assignments: BTreeMap<AssignmentKey, AssignmentRecord>,
    feed: Vec<Batch>,
    feed_head: Option<Cursor>,
    /// Counts the epochs of the feed.
    feed_epoch: u128,
    secrets: HashMap<SecretName, Versions>,
    faults: VecDeque<Option<Fault>>,
    delayed: Vec<Write>,
}

/// The versions of a secret. A version without a label is deleted at once, as the secret store may do.
#[derive(Default)]
struct Versions {
    values: HashMap<VersionId, Secret>,
    labels: HashMap<StagingLabel, VersionId>,
}

struct Record {
    state: IdentityState,
    creation: CreationId,
    profile: Option<Profile>,
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call has no effect.
    Before,
    /// The call has its effect, and the answer is lost.
    After,
    /// The call has its effect only when [`Memory::deliver_delayed`] is called.
    Delayed,
}

#[derive(Clone)]
enum Write {
    ChangeAssignments(Vec<AssignmentChange>),
    Create(NewIdentity),
    Delete(RawId, Option<CustomId>),
    FreeCustomId(CustomIdKey, RawId),
    RecordToken(RawId, i64),
    Revoke(RawId, Revision),
}

impl Memory {
    /// Plans the faults of the next calls, in order. Later calls have none.
    pub fn plan(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state().faults = faults.into_iter().collect();
    }

    /// Delivers every delayed write, in the order of the calls.
    pub fn deliver_delayed(&self) {
        let mut state = self.state();
        for write in std::mem::take(&mut state.delayed) {
            state.apply(&write);
        }
    }

    /// Replaces the value of a stored version. No secret store does that, so it simulates damage.
    pub fn replace_secret(&self, secret: SecretName, version: &VersionId, value: Secret) {
        self.state().secrets.entry(secret).or_default().values.insert(version.clone(), value);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, write: Write) -> Result<Written, StoreError> {
        let mut state = self.state();
        match state.next_fault() {
            None => Ok(state.apply(&write)),
            Some(fault) => {
                match fault {
                    Fault::Before => {}
                    Fault::After => drop(state.apply(&write)),
                    Fault::Delayed => state.delayed.push(write),
                }
                Err(lost())
            }
        }
    }
}

enum Written {
    AssignmentsChanged(AssignmentWriteOutcome),
    Created(CreateOutcome),
    Deleted,
    Freed,
    Revoked(Revocation),
    TokenRecorded,
}

impl State {
    /// The head of the feed in an epoch that no other head has had.
    fn new_epoch(&mut self) -> Cursor {
        self.feed_epoch += 1;
        self.feed_head.unwrap_or(Cursor::START).in_epoch(self.feed_epoch)
    }

    fn next_fault(&mut self) -> Option<Fault> {
        self.faults.pop_front().flatten()
    }

    fn apply(&mut self, write: &Write) -> Written {
        match write {
            Write::ChangeAssignments(changes) => {
                Written::AssignmentsChanged(self.change_assignments(changes))
            }
            Write::Create(new) => Written::Created(self.create(new)),
            Write::Delete(identity, custom_id) => {
                self.delete(identity, custom_id.as_ref());
                Written::Deleted
            }
            Write::FreeCustomId(key, deleted) => {
                self.free(*key, deleted);
                Written::Freed
            }
            Write::RecordToken(identity, issued_at) => {
                self.record_token(identity, *issued_at);
                Written::TokenRecorded
            }
            Write::Revoke(identity, from) => Written::Revoked(self.revoke(identity, *from)),
        }
    }

    fn change_assignments(&mut self, changes: &[AssignmentChange]) -> AssignmentWriteOutcome {
        let stored =
            |change: &AssignmentChange| self.assignments.get(&change.key).cloned().unwrap_or_default();
        if changes.iter().all(|change| change.is_done(&stored(change))) {
            return AssignmentWriteOutcome::Changed;
        }
        if changes.iter().any(|change| stored(change).version != change.read_version) {
            return AssignmentWriteOutcome::Conflict;
        }
        self.assignments.extend(changes.iter().map(|change| (change.key, change.record())));
        AssignmentWriteOutcome::Changed
    }

    fn create(&mut self, new: &NewIdentity) -> CreateOutcome {
        let NewIdentity { id, creation, profile, last_creation } = new;
        if let Some(stored) = self.identities.get(&id.to_string()) {
            return if stored.creation == *creation { CreateOutcome::Created } else { CreateOutcome::Taken };
        }
        let custom_id = profile.as_ref().and_then(|profile| profile.custom_id.as_ref());
        if let Some(key) = key_of(id, custom_id) {
            if self.custom_id(Some(key)) != CustomIdState::Free(*last_creation) {
                return CreateOutcome::Taken;
            }
            self.custom_ids.insert(key, CustomIdState::Names(id.clone()));
        }
        let state = IdentityState::Live(Revision::FIRST);
        self.identities
            .insert(id.to_string(), Record { state, creation: *creation, profile: profile.clone() });
        CreateOutcome::Created
    }

    fn custom_id(&self, key: Option<CustomIdKey>) -> CustomIdState {
        key.and_then(|key| self.custom_ids.get(&key).cloned()).unwrap_or(CustomIdState::Free(None))
    }

    fn delete(&mut self, identity: &RawId, custom_id: Option<&CustomId>) {
        let Some(record) = self.identities.get_mut(&identity.to_string()) else { return };
        record.state = IdentityState::Deleted;
        record.profile = None;
        if let Some(key) = key_of(identity, custom_id) {
            self.free(key, identity);
        }
    }

    fn free(&mut self, key: CustomIdKey, deleted: &RawId) {
        let last = self.identities.get(&deleted.to_string()).map(|record| record.creation);
        if self.custom_id(Some(key)) == CustomIdState::Names(deleted.clone()) {
            self.custom_ids.insert(key, CustomIdState::Free(last));
        }
    }

    fn record_token(&mut self, identity: &RawId, issued_at: i64) {
        let record = self.identities.get_mut(&identity.to_string());
        if let Some(profile) = record.and_then(|record| record.profile.as_mut()) {
            profile.last_token_issued_at = profile.last_token_issued_at.max(Some(issued_at));
        }
    }

    fn revoke(&mut self, identity: &RawId, from: Revision) -> Revocation {
        let state = self.identities.get_mut(&identity.to_string()).map(|record| &mut record.state);
        match state {
            Some(IdentityState::Live(stored)) if *stored == from => {
                *stored = from.next();
                Revocation::Revoked
            }
            Some(IdentityState::Live(stored)) if *stored > from => Revocation::Revoked,
            _ => Revocation::Gone,
        }
    }
}

fn key_of(identity: &RawId, custom_id: Option<&CustomId>) -> Option<CustomIdKey> {
    let (custom_id, resource) = (custom_id?, identity.resource()?);
    Some(custom_id.key(resource))
}

fn lost() -> StoreError {
    StoreError::Unavailable("planned fault".into())
}

#[async_trait]
impl Store for Memory {
    async fn read(&self, request: ReadRequest<'_>) -> Result<Snapshot, StoreError> {
        let mut state = self.state();
        if state.next_fault().is_some() {
            return Err(lost());
        }
        let record = request.identity.and_then(|identity| state.identities.get(&identity.to_string()));
        let identity = record.map_or(IdentityState::Absent, |record| record.state);
        let profile = record.and_then(|record| record.profile.clone());
        let custom_id = state.custom_id(request.custom_id);
        let record = |key| state.assignments.get(key).cloned().unwrap_or_default();
        let assignments = request.assignments.iter().map(record).collect();
        let pointer = state.pointer.clone().ok_or(StoreError::NotSetUp)?;
        let credential = request.resource_server.and_then(|id| state.resource_servers.credentials.get(id));
        let credential = credential.cloned().unwrap_or_default();
        Ok(Snapshot { pointer, identity, profile, custom_id, credential, assignments })
    }

    async fn create(&self, new: &NewIdentity, _now: OffsetDateTime) -> Result<CreateOutcome, StoreError> {
        match self.write(Write::Create(new.clone()))? {
            Written::Created(creation) => Ok(creation),
            _ => unreachable!("a write answers in kind"),
        }
    }

    async fn revoke(&self, identity: &RawId, from: Revision) -> Result<Revocation, StoreError> {
        match self.write(Write::Revoke(identity.clone(), from))? {
            Written::Revoked(revocation) => Ok(revocation),
            _ => unreachable!("a write answers in kind"),
        }
    }

    async fn delete(
        &self,
        identity: &RawId,
        custom_id: Option<&CustomId>,
        _until: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.write(Write::Delete(identity.clone(), custom_id.cloned())).map(|_| ())
    }

    async fn free_custom_id(
        &self,
        custom_id: CustomIdKey,
        deleted: &RawId,
        _until: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.write(Write::FreeCustomId(custom_id, deleted.clone())).map(|_| ())
    }

    async fn record_token(&self, identity: &RawId, issued_at: i64) -> Result<(), StoreError> {
        self.write(Write::RecordToken(identity.clone(), issued_at)).map(|_| ())
    }

    async fn change_assignments(
        &self,
        changes: &[AssignmentChange],
        _now: OffsetDateTime,
    ) -> Result<AssignmentWriteOutcome, StoreError> {
        match self.write(Write::ChangeAssignments(changes.to_vec()))? {
            Written::AssignmentsChanged(outcome) => Ok(outcome),
            _ => unreachable!("a write answers in kind"),
        }
    }

    async fn list_entra_assignments(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<AssignmentPage, StoreError> {
        let mut state = self.state();
        if state.next_fault().is_some() {
            return Err(lost());
        }
        let following = state.assignments.iter().filter_map(|(key, record)| match key {
            AssignmentKey::Entra { object } if !record.assignments.is_empty() => Some((*object, record)),
            _ => None,
        });
        let mut following = following.filter(|(object, _)| Some(*object) > after).peekable();
        let page: Vec<_> = following.by_ref().take(limit).collect();
        let next = following.peek().and_then(|_| page.last()).map(|(object, _)| *object);
        let assignments = page.into_iter().flat_map(|(_, record)| record.assignments.clone()).collect();
        Ok(AssignmentPage { assignments, next })
    }
}

#[async_trait]
impl Feed for Memory {
    async fn feed_head(&self) -> Result<Cursor, StoreError> {
        Ok(self.state().feed_head.unwrap_or(Cursor::START))
    }

    async fn read_feed(&self, after: Cursor) -> Result<FeedPage, StoreError> {
        let state = self.state();
        let is_after = |batch: &&Batch| batch.at.sequence() > after.sequence();
        let batches = state.feed.iter().filter(is_after).cloned().collect();
        let reading = Reading { batches, head: state.feed_head };
        Ok(reading.page(after).unwrap_or(FeedPage::UnknownCursor))
    }

    async fn append_to_feed(&self, ends: &[End], _now: OffsetDateTime) -> Result<(), StoreError> {
        let mut state = self.state();
        for ends in ends.chunks(MAX_BATCH) {
            let head = state.feed_head.unwrap_or_else(|| state.new_epoch());
            state.feed_head = Some(head.next());
            state.feed.push(Batch { at: head.next(), ends: ends.to_vec() });
        }
        Ok(())
    }

    async fn begin_feed_epoch(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.feed_head = Some(state.new_epoch());
        Ok(())
    }
}

#[async_trait]
impl PointerWriter for Memory {
    async fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        let mut state = self.state();
        if state.next_fault().is_some() { Err(lost()) } else { Ok(state.pointer.clone()) }
    }

    async fn write_pointer(&self, pointer: &Pointer) -> Result<PointerWriteOutcome, StoreError> {
        let mut state = self.state();
        let fault = state.next_fault();
        if fault == Some(Fault::Before) {
            return Err(lost());
        }
        let stored = state.pointer.as_ref();
        let follows = stored.map_or(0, |stored| stored.generation) + 1 == pointer.generation;
        let change = if follows && stored.is_none_or(|stored| stored.copies == pointer.copies) {
            state.pointer = Some(pointer.clone());
            PointerWriteOutcome::Changed
        } else {
            PointerWriteOutcome::Conflict
        };
        if fault.is_some() { Err(lost()) } else { Ok(change) }
    }
}

#[async_trait]
impl ResourceServerWriter for Memory {
    async fn resource_servers(&self) -> Result<ResourceServers, StoreError> {
        let mut state = self.state();
        if state.next_fault().is_some() { Err(lost()) } else { Ok(state.resource_servers.clone()) }
    }

    async fn write_resource_servers(
        &self,
        next: &ResourceServers,
        _changed: &ResourceServerId,
        _now: OffsetDateTime,
    ) -> Result<ResourceServersWriteOutcome, StoreError> {
        let mut state = self.state();
        let fault = state.next_fault();
        if fault == Some(Fault::Before) {
            return Err(lost());
        }
        let outcome = if state.resource_servers.version.saturating_add(1) == next.version {
            state.resource_servers = next.clone();
            ResourceServersWriteOutcome::Changed
        } else {
            ResourceServersWriteOutcome::Conflict
        };
        if fault.is_some() { Err(lost()) } else { Ok(outcome) }
    }
}

#[async_trait]
impl SecretStore for Memory {
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, SecretStoreError> {
        let mut state = self.state();
        if state.next_fault().is_some() {
            return Err(SecretStoreError::Unavailable("planned fault".into()));
        }
        let versions = state.secrets.entry(secret).or_default();
        versions.values.get(version).cloned().ok_or(SecretStoreError::NoSuchVersion)
    }
}

#[async_trait]
impl SecretStoreWriter for Memory {
    async fn labels(&self, secret: SecretName) -> Result<StagingLabels, SecretStoreError> {
        let mut state = self.state();
        if state.next_fault().is_some() {
            return Err(SecretStoreError::Unavailable("planned fault".into()));
        }
        let mut listed: HashMap<String, Vec<String>> = HashMap::new();
        for (label, version) in &state.secrets.entry(secret).or_default().labels {
            listed.entry(version.to_string()).or_default().push(label.as_str().to_owned());
        }
        Ok(StagingLabels::from_versions(&listed))
    }

    async fn store(
        &self,
        secret: SecretName,
        version: &VersionId,
        value: &Secret,
        label: StagingLabel,
    ) -> Result<PutOutcome, SecretStoreError> {
        self.change(secret, |versions| versions.store(version, value, label))
    }

    async fn move_label(
        &self,
        secret: SecretName,
        label: StagingLabel,
        from: Option<&VersionId>,
        to: Option<&VersionId>,
    ) -> Result<MoveOutcome, SecretStoreError> {
        self.change(secret, |versions| versions.move_label(label, from, to))
    }
}

impl Memory {
    fn change<T>(
        &self,
        secret: SecretName,
        change: impl FnOnce(&mut Versions) -> T,
    ) -> Result<T, SecretStoreError> {
        let mut state = self.state();
        let fault = state.next_fault();
        let lost = || SecretStoreError::Unavailable("planned fault".into());
        if fault == Some(Fault::Before) {
            return Err(lost());
        }
        let answer = change(state.secrets.entry(secret).or_default());
        if fault.is_some() { Err(lost()) } else { Ok(answer) }
    }
}

impl Versions {
    fn store(&mut self, version: &VersionId, value: &Secret, label: StagingLabel) -> PutOutcome {
        if let Some(stored) = self.values.get(version) {
            let same = stored.expose() == value.expose();
            return if same { PutOutcome::Stored } else { PutOutcome::AlreadyThere };
        }
        self.labels.remove(&StagingLabel::Pending);
        self.values.insert(version.clone(), value.clone());
        self.put(label, version);
        PutOutcome::Stored
    }

    fn move_label(
        &mut self,
        label: StagingLabel,
        from: Option<&VersionId>,
        to: Option<&VersionId>,
    ) -> MoveOutcome {
        if self.labels.get(&label) == to {
            return MoveOutcome::Moved;
        }
        let known = to.is_none_or(|version| self.values.contains_key(version));
        if self.labels.get(&label) != from || !known {
            return MoveOutcome::Stale;
        }
        match to {
            Some(version) => self.put(label, version),
            None => {
                self.labels.remove(&label);
                self.forget_unlabelled();
            }
        }
        MoveOutcome::Moved
    }

    fn put(&mut self, label: StagingLabel, version: &VersionId) {
        let former = self.labels.insert(label, version.clone());
        if label == StagingLabel::Current {
            if let Some(former) = former {
                self.labels.insert(StagingLabel::Previous, former);
            }
            if self.labels.get(&StagingLabel::Pending) == Some(version) {
                self.labels.remove(&StagingLabel::Pending);
            }
        }
        self.forget_unlabelled();
    }

    fn forget_unlabelled(&mut self) {
        let Self { values, labels } = self;
        values.retain(|version, _| labels.values().any(|labelled| labelled == version));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::contract;

    #[tokio::test]
    async fn the_store_keeps_the_contract() {
        let memory = Arc::new(Memory::default());
        contract::holds(memory.as_ref(), memory.as_ref(), memory.as_ref()).await;
    }

    #[tokio::test]
    async fn the_feed_keeps_the_contract() {
        crate::store::feed::contract::holds(&Memory::default()).await;
    }

    #[tokio::test]
    async fn the_secret_store_keeps_the_contract() {
        crate::secrets::contract::holds(&Memory::default()).await;
    }
}
