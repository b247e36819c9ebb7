//! What every store must do: run against each implementation.

#![expect(clippy::unwrap_used, reason = "a broken contract fails the test that runs it")]

use time::Duration;
use uuid::Uuid;

use super::{
    BookChange, CreateOutcome, CreationId, IdentityState, PointerWriteOutcome, PointerWriter, ReadRequest,
    Revision, Revocation, Store, StoreError,
};
use crate::ids::{RawId, UserId};
use crate::keys::Algorithm;
use crate::keys::pointer::{Pointer, Published};
use crate::secrets::VersionId;
use crate::store::assignments::{Assignment, Book, BookName, PrincipalType};
use crate::testing::{NOON, SeededRandom, settings, signing_keys};

/// Runs the whole contract against an empty store.
///
/// # Panics
/// When the store breaks it.
pub async fn holds(store: &dyn Store, pointers: &dyn PointerWriter) {
    pointer_changes_one_generation_at_a_time(store, pointers).await;
    creation_meets_no_record(store).await;
    revision_only_moves_on(store).await;
    deletion_is_final(store).await;
    a_book_changes_from_what_was_read(store).await;
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
    // Copies are read at random: every one must have changed.
    for _ in 0..64 {
        assert_eq!(store.read(ReadRequest::POINTER).await.unwrap().pointer, second);
    }
}

async fn creation_meets_no_record(store: &dyn Store) {
    let (id, mine, theirs) = (identity(1), creation(1), creation(2));
    assert_eq!(state(store, &id).await, IdentityState::Absent);
    assert_eq!(store.create(&id, mine, NOON).await.unwrap(), CreateOutcome::Created);
    assert_eq!(state(store, &id).await, IdentityState::Live(Revision::FIRST));
    assert_eq!(store.create(&id, mine, NOON).await.unwrap(), CreateOutcome::Created, "a repeat knows itself");
    assert_eq!(store.create(&id, theirs, NOON).await.unwrap(), CreateOutcome::Taken);
    assert_eq!(state(store, &identity(2)).await, IdentityState::Absent);
}

async fn revision_only_moves_on(store: &dyn Store) {
    let id = identity(1);
    let second = Revision::FIRST.next();
    assert_eq!(store.revoke(&id, Revision::FIRST).await.unwrap(), Revocation::Revoked);
    assert_eq!(state(store, &id).await, IdentityState::Live(second));
    assert_eq!(store.revoke(&id, Revision::FIRST).await.unwrap(), Revocation::Revoked, "already done");
    assert_eq!(state(store, &id).await, IdentityState::Live(second), "a repeat must not count again");
    assert_eq!(store.create(&id, creation(1), NOON).await.unwrap(), CreateOutcome::Created);
    assert_eq!(state(store, &id).await, IdentityState::Live(second), "a late creation must not reset it");
    assert_eq!(store.revoke(&identity(3), Revision::FIRST).await.unwrap(), Revocation::Gone);
    assert_eq!(state(store, &identity(3)).await, IdentityState::Absent, "nothing is made by revoking");
}

async fn deletion_is_final(store: &dyn Store) {
    let id = identity(1);
    let until = NOON + Duration::hours(48);
    for _ in 0..2 {
        store.delete(&id, until).await.unwrap();
        assert_eq!(state(store, &id).await, IdentityState::Deleted);
    }
    assert_eq!(store.revoke(&id, Revision::FIRST.next()).await.unwrap(), Revocation::Gone);
    let late = store.create(&id, creation(1), NOON).await.unwrap();
    assert_eq!(
        (late, state(store, &id).await),
        (CreateOutcome::Created, IdentityState::Deleted),
        "a late creation"
    );
    store.delete(&identity(4), until).await.unwrap();
    assert_eq!(state(store, &identity(4)).await, IdentityState::Absent, "nothing is made by deleting");
}

async fn a_book_changes_from_what_was_read(store: &dyn Store) {
    let read = async |name| store.read(ReadRequest::book(name)).await.unwrap().book;
    let entry = |n: u128| Assignment {
        object_id: Uuid::from_u128(n),
        tenant_id: Uuid::from_u128(99),
        principal_type: PrincipalType::User,
        client_ids: (n > 1).then(|| vec![Uuid::from_u128(7)]),
    };
    let empty = read(BookName::Entra).await;
    assert_eq!(empty, Book::default());
    let one = Book { entries: vec![entry(1)], ..empty.clone() };
    assert_eq!(store.write_book(BookName::Entra, &one).await.unwrap(), BookChange::Changed);
    assert_eq!(store.write_book(BookName::Entra, &one).await.unwrap(), BookChange::Changed, "already done");
    let other = Book { entries: vec![entry(3)], ..one.clone() };
    assert_eq!(store.write_book(BookName::Entra, &other).await.unwrap(), BookChange::Conflict);
    let mut two = read(BookName::Entra).await;
    assert_eq!(two, Book { version: 1, entries: vec![entry(1)] });
    two.entries.push(entry(2));
    assert_eq!(store.write_book(BookName::Entra, &two).await.unwrap(), BookChange::Changed);
    assert_eq!(read(BookName::Entra).await, Book { version: 2, ..two });
    assert_eq!(
        store.write_book(BookName::Entra, &one).await.unwrap(),
        BookChange::Conflict,
        "long overtaken"
    );
    assert_eq!(read(BookName::TeamsExtension).await, Book::default(), "each book is its own");
}

async fn state(store: &dyn Store, identity: &RawId) -> IdentityState {
    store.read(ReadRequest::identity(identity)).await.unwrap().identity
}

fn identity(seed: u64) -> RawId {
    UserId::mint(settings().resource.id, NOON, &SeededRandom::new(seed)).into()
}

fn creation(seed: u64) -> CreationId {
    CreationId::random(&SeededRandom::new(seed))
}

fn pointer(generation: u64, key: usize) -> Pointer {
    Pointer {
        generation,
        copies: 8,
        access_keys: VersionId::new(format!("access-{generation}")),
        access_keys_sequence: generation,
        signing_keys: VersionId::new(format!("signing-{generation}")),
        signing_keys_sequence: generation,
        published: Published::of(&signing_keys(Algorithm::Es256, key), NOON.unix_timestamp()),
    }
}
