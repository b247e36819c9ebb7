//! The contract of the store port. Its tests run against each implementation.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken contract fails the test that runs it"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use time::Duration;
use uuid::Uuid;

use super::{
    CreateOutcome, CreationId, IdentityState, NewIdentity, PointerWriteOutcome, PointerWriter, ReadRequest,
    Revision, Revocation, Store, StoreError,
};
use crate::ids::{RawId, UserId};
use crate::keys::Algorithm;
use crate::keys::pointer::{Pointer, Published};
use crate::secrets::VersionId;
use crate::store::assignments::{
    Assignment, AssignmentChange, AssignmentKey, AssignmentKind, AssignmentRecord, AssignmentVersion,
    AssignmentWriteOutcome, MAX_CHANGES, PrincipalType,
};
use crate::store::custom_ids::{CustomId, CustomIdState, Profile};
use crate::store::resource_servers::{
    Credential, ResourceServerId, ResourceServerWriter, ResourceServers, ResourceServersWriteOutcome,
    SecretHash, StoredSecret,
};
use crate::testing::{NOON, SeededRandom, settings, signing_key, signing_keys};

/// Runs the whole contract against an empty store.
///
/// # Panics
/// When the store breaks the contract.
pub async fn holds(
    store: &dyn Store,
    pointers: &dyn PointerWriter,
    resource_servers: &dyn ResourceServerWriter,
) {
    pointer_changes_one_generation_at_a_time(store, pointers).await;
    creation_meets_no_record(store).await;
    revision_only_moves_on(store).await;
    deletion_is_final(store).await;
    custom_id_names_one_identity(store).await;
    free_custom_id_is_not_taken_by_earlier_creation(store).await;
    deletion_works_with_damaged_custom_id(store).await;
    custom_id_of_deleted_identity_becomes_free(store).await;
    time_of_last_token_only_moves_on(store).await;
    assignments_change_from_read_version(store).await;
    removed_assignment_stays_removed(store).await;
    assignment_after_removal_stays(store).await;
    several_assignments_change_together(store).await;
    list_has_every_assignment_once(store).await;
    credentials_change_one_version_at_a_time(store, resource_servers).await;
}

async fn pointer_changes_one_generation_at_a_time(store: &dyn Store, pointers: &dyn PointerWriter) {
    assert!(
        matches!(store.read(ReadRequest::POINTER).await, Err(StoreError::NotSetUp)),
        "an empty store has no pointer"
    );
    assert_eq!(pointers.pointer().await.unwrap(), None);
    let first = pointer(1, 0);
    assert_eq!(pointers.write_pointer(&pointer(2, 0)).await.unwrap(), PointerWriteOutcome::Conflict);
    assert_eq!(pointers.write_pointer(&first).await.unwrap(), PointerWriteOutcome::Changed);
    assert_eq!(pointers.write_pointer(&first).await.unwrap(), PointerWriteOutcome::Conflict);
    assert_eq!(pointers.write_pointer(&pointer(3, 3)).await.unwrap(), PointerWriteOutcome::Conflict);
    assert_eq!(pointers.pointer().await.unwrap(), Some(first));
    let fewer = Pointer { copies: 4, ..pointer(2, 3) };
    assert_eq!(
        pointers.write_pointer(&fewer).await.unwrap(),
        PointerWriteOutcome::Conflict,
        "copies left behind"
    );
    let second = pointer(2, 3);
    assert_eq!(pointers.write_pointer(&second).await.unwrap(), PointerWriteOutcome::Changed);
    // Copies are read at random, and every copy must have changed.
    for _ in 0..64 {
        assert_eq!(store.read(ReadRequest::POINTER).await.unwrap().pointer, second);
    }
}

async fn creation_meets_no_record(store: &dyn Store) {
    let (id, mine, theirs) = (identity(1), creation(1), creation(2));
    assert_eq!(state(store, &id).await, IdentityState::Absent);
    assert_eq!(create(store, &id, mine).await, CreateOutcome::Created);
    assert_eq!(state(store, &id).await, IdentityState::Live(Revision::FIRST));
    assert_eq!(create(store, &id, mine).await, CreateOutcome::Created, "a repeat knows itself");
    assert_eq!(create(store, &id, theirs).await, CreateOutcome::Taken);
    assert_eq!(state(store, &identity(2)).await, IdentityState::Absent);
}

async fn revision_only_moves_on(store: &dyn Store) {
    let id = identity(1);
    let second = Revision::FIRST.next();
    assert_eq!(store.revoke(&id, Revision::FIRST).await.unwrap(), Revocation::Revoked);
    assert_eq!(state(store, &id).await, IdentityState::Live(second));
    assert_eq!(store.revoke(&id, Revision::FIRST).await.unwrap(), Revocation::Revoked, "already done");
    assert_eq!(state(store, &id).await, IdentityState::Live(second), "a repeat must not count again");
    assert_eq!(create(store, &id, creation(1)).await, CreateOutcome::Created);
    assert_eq!(state(store, &id).await, IdentityState::Live(second), "a late creation must not reset it");
    assert_eq!(store.revoke(&identity(3), Revision::FIRST).await.unwrap(), Revocation::Gone);
    assert_eq!(state(store, &identity(3)).await, IdentityState::Absent, "nothing is made by revoking");
}

async fn deletion_is_final(store: &dyn Store) {
    let id = identity(1);
    let until = NOON + Duration::hours(48);
    for _ in 0..2 {
        store.delete(&id, None, until).await.unwrap();
        assert_eq!(state(store, &id).await, IdentityState::Deleted);
    }
    assert_eq!(store.revoke(&id, Revision::FIRST.next()).await.unwrap(), Revocation::Gone);
    let late = create(store, &id, creation(1)).await;
    assert_eq!(
        (late, state(store, &id).await),
        (CreateOutcome::Created, IdentityState::Deleted),
        "a late creation"
    );
    store.delete(&identity(4), None, until).await.unwrap();
    assert_eq!(state(store, &identity(4)).await, IdentityState::Absent, "nothing is made by deleting");
}

async fn custom_id_names_one_identity(store: &dyn Store) {
    let alice = custom_id("alice");
    assert_eq!(named(store, &alice).await, CustomIdState::Free(None));
    let first = with_custom_id(0x100, &alice, None);
    for _ in 0..2 {
        assert_eq!(
            store.create(&first, NOON).await.unwrap(),
            CreateOutcome::Created,
            "a repeat knows itself"
        );
        assert_eq!(named(store, &alice).await, CustomIdState::Names(first.id.clone()));
    }
    assert_eq!(profile(store, &first.id).await, first.profile);
    let second = with_custom_id(0x101, &alice, None);
    assert_eq!(store.create(&second, NOON).await.unwrap(), CreateOutcome::Taken);
    assert_eq!(state(store, &second.id).await, IdentityState::Absent, "both records or none");
    let third = NewIdentity { id: first.id.clone(), ..with_custom_id(0x102, &custom_id("bob"), None) };
    assert_eq!(store.create(&third, NOON).await.unwrap(), CreateOutcome::Taken);
    assert_eq!(named(store, &custom_id("bob")).await, CustomIdState::Free(None), "both records or none");
    assert_eq!(named(store, &alice).await, CustomIdState::Names(first.id.clone()));
    assert_eq!(store.revoke(&first.id, Revision::FIRST).await.unwrap(), Revocation::Revoked);
    assert_eq!(profile(store, &first.id).await, first.profile, "a revocation keeps the profile");
    // Without a custom id, a profile needs no other record.
    let plain = NewIdentity {
        profile: Some(Profile::default()),
        ..NewIdentity::plain(identity(0x103), creation(0x103))
    };
    assert_eq!(store.create(&plain, NOON).await.unwrap(), CreateOutcome::Created);
    assert_eq!(profile(store, &plain.id).await, plain.profile);
    assert_eq!(profile(store, &identity(2)).await, None);
}

async fn free_custom_id_is_not_taken_by_earlier_creation(store: &dyn Store) {
    let (carol, until) = (custom_id("carol"), NOON + Duration::hours(48));
    let (first, mut late, mut last) = (with_custom_id(0x110, &carol, None), vec![], None);
    assert_eq!(store.create(&first, NOON).await.unwrap(), CreateOutcome::Created);
    let mut current = first;
    for round in 0..3 {
        // This creation read the same state as the current identity's creation, and its write arrives later.
        late.push(with_custom_id(0x120 + round, &carol, last));
        for _ in 0..2 {
            store.delete(&current.id, Some(&carol), until).await.unwrap();
            assert_eq!(state(store, &current.id).await, IdentityState::Deleted);
            assert_eq!(profile(store, &current.id).await, None, "a tombstone has no personal data");
            assert_eq!(named(store, &carol).await, CustomIdState::Free(Some(current.creation)));
        }
        for earlier in &late {
            assert_eq!(store.create(earlier, NOON).await.unwrap(), CreateOutcome::Taken);
            assert_eq!(state(store, &earlier.id).await, IdentityState::Absent);
        }
        assert_eq!(store.create(&current, NOON).await.unwrap(), CreateOutcome::Created, "a late creation");
        assert_eq!(state(store, &current.id).await, IdentityState::Deleted);
        assert_eq!(named(store, &carol).await, CustomIdState::Free(Some(current.creation)));
        last = Some(current.creation);
        let next = with_custom_id(0x130 + round, &carol, last);
        assert_eq!(store.create(&next, NOON).await.unwrap(), CreateOutcome::Created);
        store.delete(&current.id, Some(&carol), until).await.unwrap();
        assert_eq!(named(store, &carol).await, CustomIdState::Names(next.id.clone()), "a late deletion");
        current = next;
    }
    assert_eq!(state(store, &current.id).await, IdentityState::Live(Revision::FIRST));
}

async fn deletion_works_with_damaged_custom_id(store: &dyn Store) {
    let (dave, erin, until) = (custom_id("dave"), custom_id("erin"), NOON + Duration::hours(48));
    let (one, two) = (with_custom_id(0x140, &dave, None), with_custom_id(0x141, &erin, None));
    for new in [&one, &two] {
        assert_eq!(store.create(new, NOON).await.unwrap(), CreateOutcome::Created);
    }
    store.delete(&one.id, Some(&erin), until).await.unwrap();
    assert_eq!(state(store, &one.id).await, IdentityState::Deleted);
    assert_eq!(
        named(store, &erin).await,
        CustomIdState::Names(two.id),
        "only its own custom id becomes free"
    );
}

async fn custom_id_of_deleted_identity_becomes_free(store: &dyn Store) {
    let (grace, until) = (custom_id("grace"), NOON + Duration::hours(48));
    let key = grace.key(settings().resource.id);
    let (first, other) = (with_custom_id(0x160, &grace, None), identity(0x161));
    assert_eq!(store.create(&first, NOON).await.unwrap(), CreateOutcome::Created);
    // A release without custom ids deletes the identity alone.
    store.delete(&first.id, None, until).await.unwrap();
    store.free_custom_id(key, &other, until).await.unwrap();
    assert_eq!(
        named(store, &grace).await,
        CustomIdState::Names(first.id.clone()),
        "it names another identity"
    );
    for _ in 0..2 {
        store.free_custom_id(key, &first.id, until).await.unwrap();
        assert_eq!(named(store, &grace).await, CustomIdState::Free(Some(first.creation)));
    }
    let next = with_custom_id(0x162, &grace, Some(first.creation));
    assert_eq!(store.create(&next, NOON).await.unwrap(), CreateOutcome::Created);
    store.free_custom_id(key, &first.id, until).await.unwrap();
    assert_eq!(named(store, &grace).await, CustomIdState::Names(next.id), "a late attempt changes nothing");
}

async fn time_of_last_token_only_moves_on(store: &dyn Store) {
    let new = with_custom_id(0x150, &custom_id("frank"), None);
    assert_eq!(store.create(&new, NOON).await.unwrap(), CreateOutcome::Created);
    for (issued_at, stored) in [(5, 5), (3, 5), (5, 5), (9, 9)] {
        store.record_token(&new.id, issued_at).await.unwrap();
        let found = profile(store, &new.id).await.unwrap();
        assert_eq!((found.last_token_issued_at, found.custom_id), (Some(stored), Some(custom_id("frank"))));
    }
    let plain = NewIdentity::plain(identity(0x151), creation(0x151));
    assert_eq!(store.create(&plain, NOON).await.unwrap(), CreateOutcome::Created);
    store.record_token(&plain.id, 5).await.unwrap();
    assert_eq!(profile(store, &plain.id).await, None, "an identity without a profile gets none");
    store.delete(&new.id, new.profile.unwrap().custom_id.as_ref(), NOON).await.unwrap();
    store.record_token(&new.id, 11).await.unwrap();
    assert_eq!(profile(store, &new.id).await, None);
    assert_eq!(state(store, &new.id).await, IdentityState::Deleted);
    store.record_token(&identity(0x152), 5).await.unwrap();
    assert_eq!(state(store, &identity(0x152)).await, IdentityState::Absent, "nothing is made by a token");
}

async fn assignments_change_from_read_version(store: &dyn Store) {
    let key = entra(1);
    assert_eq!(record(store, key).await, AssignmentRecord::default());
    let first = assign(key, NONE, 7);
    assert_eq!(change(store, &first).await, AssignmentWriteOutcome::Changed);
    assert_eq!(record(store, key).await, first.record());
    assert_eq!(change(store, &first).await, AssignmentWriteOutcome::Changed, "an own earlier attempt");
    assert_eq!(
        change(store, &assign(key, NONE, 7)).await,
        AssignmentWriteOutcome::Changed,
        "an equal change"
    );
    assert_eq!(record(store, key).await, first.record(), "both write nothing");
    assert_eq!(change(store, &assign(key, NONE, 8)).await, AssignmentWriteOutcome::Conflict);
    let second = assign(key, first.version, 8);
    assert_eq!(change(store, &second).await, AssignmentWriteOutcome::Changed);
    assert_eq!(change(store, &first).await, AssignmentWriteOutcome::Conflict, "another content");
    assert_eq!(change(store, &assign(key, fresh(), 7)).await, AssignmentWriteOutcome::Conflict);
    assert_eq!(record(store, key).await, second.record());
    let same_object = AssignmentKey::TeamsExtension { object: Uuid::from_u128(1), tenant: TENANT };
    let other_tenant =
        AssignmentKey::TeamsExtension { object: Uuid::from_u128(1), tenant: Uuid::from_u128(98) };
    let extension = assign(same_object, NONE, 7);
    assert_eq!(change(store, &extension).await, AssignmentWriteOutcome::Changed);
    assert_eq!(record(store, other_tenant).await, AssignmentRecord::default());
    let keys = [same_object, key, entra(2)];
    let several = store.read(ReadRequest::assignments(&keys)).await.unwrap().assignments;
    assert_eq!(several, [extension.record(), second.record(), AssignmentRecord::default()]);
}

async fn removed_assignment_stays_removed(store: &dyn Store) {
    let (absent, present) = (entra(0x30), assign(entra(0x31), NONE, 7));
    assert_eq!(change(store, &present).await, AssignmentWriteOutcome::Changed);
    for (key, read_version) in [(absent, NONE), (present.key, present.version)] {
        // An attempt that read before the removal, and whose write arrives after it.
        let (late, removal) = (assign(key, read_version, 8), remove(key, read_version));
        for _ in 0..2 {
            assert_eq!(change(store, &removal).await, AssignmentWriteOutcome::Changed);
            assert_eq!(change(store, &late).await, AssignmentWriteOutcome::Conflict);
            assert_eq!(record(store, key).await, removal.record(), "a repetition writes nothing");
        }
        let late = assign(key, removal.version, 8);
        let again = remove(key, removal.version);
        assert_eq!(change(store, &again).await, AssignmentWriteOutcome::Changed);
        assert_eq!(record(store, key).await, again.record(), "a removal always writes");
        assert_eq!(change(store, &late).await, AssignmentWriteOutcome::Conflict);
    }
}

async fn assignment_after_removal_stays(store: &dyn Store) {
    let key = entra(0x40);
    let removal = remove(key, NONE);
    assert_eq!(change(store, &removal).await, AssignmentWriteOutcome::Changed);
    let (late, again) = (remove(key, removal.version), assign(key, removal.version, 7));
    assert_eq!(change(store, &again).await, AssignmentWriteOutcome::Changed);
    assert_eq!(change(store, &late).await, AssignmentWriteOutcome::Conflict);
    let (late, equal) = (remove(key, again.version), assign(key, again.version, 7));
    assert_eq!(change(store, &equal).await, AssignmentWriteOutcome::Changed);
    assert_eq!(record(store, key).await, equal.record(), "an equal assignment writes too");
    assert_eq!(change(store, &late).await, AssignmentWriteOutcome::Conflict);
}

async fn several_assignments_change_together(store: &dyn Store) {
    let keys: Vec<_> = (0..MAX_CHANGES as u128).map(|n| entra(0x5000 + n)).collect();
    let all: Vec<_> = keys.iter().map(|key| assign(*key, NONE, 7)).collect();
    assert_eq!(changes(store, &all).await, AssignmentWriteOutcome::Changed);
    assert_eq!(changes(store, &all).await, AssignmentWriteOutcome::Changed, "an own earlier attempt");
    let records = store.read(ReadRequest::assignments(&keys)).await.unwrap().assignments;
    assert_eq!(records, all.iter().map(AssignmentChange::record).collect::<Vec<_>>());
    let half = [remove(keys[0], all[0].version), remove(keys[1], NONE)];
    assert_eq!(changes(store, &half).await, AssignmentWriteOutcome::Conflict);
    let half = [remove(keys[0], all[0].version), assign(keys[1], NONE, 7)];
    assert_eq!(changes(store, &half).await, AssignmentWriteOutcome::Conflict, "one done, one not");
    assert_eq!(record(store, keys[0]).await, all[0].record(), "all or none");
    let rest: Vec<_> = all.iter().map(|change| remove(change.key, change.version)).collect();
    assert_eq!(changes(store, &rest).await, AssignmentWriteOutcome::Changed);
}

async fn list_has_every_assignment_once(store: &dyn Store) {
    // Two in one partition of the table, the others elsewhere. The first place and the last one are among them.
    let objects = [0, 1, 0x1111 << 112, 0x1112 << 112, 0x8 << 124, u128::MAX - 1, u128::MAX];
    for object in objects.into_iter().filter(|object| *object != 1) {
        assert_eq!(change(store, &assign(entra(object), NONE, 7)).await, AssignmentWriteOutcome::Changed);
    }
    assert_eq!(change(store, &remove(entra(3), NONE)).await, AssignmentWriteOutcome::Changed);
    let mut expected: Vec<_> = objects.map(Uuid::from_u128).to_vec();
    expected.push(Uuid::from_u128(0x40));
    expected.sort();
    for limit in [1, 2, 3, expected.len(), 1_000] {
        let (mut listed, mut after) = (vec![], None);
        loop {
            let page = store.list_entra_assignments(after, limit).await.unwrap();
            assert!(page.assignments.len() <= limit, "{limit}");
            listed.extend(page.assignments.into_iter().map(|assignment| assignment.object_id));
            assert!(page.next.is_none() || page.next > after, "the list goes on");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let last = store.list_entra_assignments(Some(Uuid::max()), 1).await.unwrap();
    assert_eq!((last.assignments.len(), last.next), (0, None));
}

async fn credentials_change_one_version_at_a_time(store: &dyn Store, writer: &dyn ResourceServerWriter) {
    use ResourceServersWriteOutcome::{Changed, Conflict};
    let ids: [ResourceServerId; 2] = ["chat-api", "calls"].map(|id| id.parse().unwrap());
    let secret = |text: &str| -> Credential {
        let secret = StoredSecret { sha256: SecretHash::of(text), created_at: NOON.unix_timestamp() };
        serde_json::from_value(serde_json::json!([secret])).unwrap()
    };
    let state = |version: u64, credentials: &[(usize, &str)]| ResourceServers {
        version,
        credentials: credentials.iter().map(|(n, text)| (ids[*n].clone(), secret(text))).collect(),
    };
    assert_eq!(writer.resource_servers().await.unwrap(), ResourceServers::default());
    let (one, two) = (state(1, &[(0, "a")]), state(2, &[(0, "a"), (1, "b")]));
    let (three, four) = (state(3, &[(1, "b")]), state(4, &[(0, "c"), (1, "b")]));
    for (next, changed, outcome) in [
        (&two, 1, Conflict),
        (&one, 0, Changed),
        (&one, 0, Conflict),
        (&three, 0, Conflict),
        (&two, 1, Changed),
        // An addition that arrives after the removal does not undo it.
        (&three, 0, Changed),
        (&one, 0, Conflict),
        (&two, 0, Conflict),
        (&four, 0, Changed),
        (&three, 0, Conflict),
    ] {
        let before = writer.resource_servers().await.unwrap();
        assert_eq!(writer.write_resource_servers(next, &ids[changed], NOON).await.unwrap(), outcome);
        let stored = writer.resource_servers().await.unwrap();
        assert_eq!(stored, if outcome == Changed { next.clone() } else { before });
        for id in &ids {
            let read = ReadRequest { resource_server: Some(id), ..ReadRequest::POINTER };
            let expected = stored.credentials.get(id).cloned().unwrap_or_default();
            assert_eq!(store.read(read).await.unwrap().credential, expected, "{id}");
        }
    }
    assert_eq!(store.read(ReadRequest::POINTER).await.unwrap().credential, Credential::default());
}

const TENANT: Uuid = Uuid::from_u128(99);

fn entra(object: u128) -> AssignmentKey {
    AssignmentKey::Entra { object: Uuid::from_u128(object) }
}

const NONE: AssignmentVersion = AssignmentVersion::NONE;

/// A version that no other change has.
fn fresh() -> AssignmentVersion {
    static SEED: AtomicU64 = AtomicU64::new(0);
    AssignmentVersion::random(&SeededRandom::new(SEED.fetch_add(1, Ordering::Relaxed)))
}

fn assign(key: AssignmentKey, read_version: AssignmentVersion, client: u128) -> AssignmentChange {
    let (AssignmentKey::Entra { object } | AssignmentKey::TeamsExtension { object, .. }) = key;
    let assignment = Assignment {
        object_id: object,
        tenant_id: TENANT,
        principal_type: PrincipalType::User,
        client_ids: (key.kind() == AssignmentKind::Entra).then(|| vec![Uuid::from_u128(client)]),
    };
    AssignmentChange { key, read_version, version: fresh(), assignment: Some(assignment) }
}

fn remove(key: AssignmentKey, read_version: AssignmentVersion) -> AssignmentChange {
    AssignmentChange { key, read_version, version: fresh(), assignment: None }
}

async fn change(store: &dyn Store, change: &AssignmentChange) -> AssignmentWriteOutcome {
    changes(store, std::slice::from_ref(change)).await
}

async fn changes(store: &dyn Store, changes: &[AssignmentChange]) -> AssignmentWriteOutcome {
    store.change_assignments(changes, NOON).await.unwrap()
}

async fn record(store: &dyn Store, key: AssignmentKey) -> AssignmentRecord {
    store.read(ReadRequest::assignments(&[key])).await.unwrap().assignments.remove(0)
}

async fn state(store: &dyn Store, identity: &RawId) -> IdentityState {
    store.read(ReadRequest::identity(identity)).await.unwrap().identity
}

async fn profile(store: &dyn Store, identity: &RawId) -> Option<Profile> {
    store.read(ReadRequest::identity(identity)).await.unwrap().profile
}

async fn named(store: &dyn Store, custom_id: &CustomId) -> CustomIdState {
    let key = custom_id.key(settings().resource.id);
    store.read(ReadRequest::custom_id(key)).await.unwrap().custom_id
}

async fn create(store: &dyn Store, id: &RawId, creation: CreationId) -> CreateOutcome {
    store.create(&NewIdentity::plain(id.clone(), creation), NOON).await.unwrap()
}

fn custom_id(text: &str) -> CustomId {
    text.parse().unwrap()
}

fn with_custom_id(seed: u64, custom_id: &CustomId, last_creation: Option<CreationId>) -> NewIdentity {
    let profile = Profile { custom_id: Some(custom_id.clone()), last_token_issued_at: None };
    NewIdentity { id: identity(seed), creation: creation(seed), profile: Some(profile), last_creation }
}

fn identity(seed: u64) -> RawId {
    UserId::mint(settings().resource.id, NOON, &SeededRandom::new(seed)).into()
}

fn creation(seed: u64) -> CreationId {
    CreationId::random(&SeededRandom::new(seed))
}

/// A pointer. One of an odd generation has standby keys, and one of an even generation has none, as a former release writes
/// it.
fn pointer(generation: u64, key: usize) -> Pointer {
    let mut keys = signing_keys(Algorithm::Es256, key);
    if generation % 2 == 1 {
        let mut next = (key + 3)..;
        keys = keys.with_standby(|| Ok(signing_key(Algorithm::Es256, next.next().unwrap()))).unwrap();
    }
    Pointer {
        generation,
        copies: 8,
        access_keys: VersionId::new(format!("access-{generation}")),
        access_keys_sequence: generation,
        signing_keys: VersionId::new(format!("signing-{generation}")),
        signing_keys_sequence: generation,
        published: Published::of(&keys, NOON.unix_timestamp()).unwrap(),
    }
}
