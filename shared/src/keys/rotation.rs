//! Replacing keys: rotation of the signing keys, regeneration of an access key. The protocol is decision
//! record 0008; a model of it, step for step, is in `tests/models`.
//!
//! The steps, in order:
//!
//! | step | what it does |
//! |---|---|
//! | `flip` | brings a pointer that lags behind the current versions up to them (heals), or does nothing |
//! | `settle` | moves the labels after the pointer, so that exactly the versions in force are kept |
//! | `store` | writes the new versions, pending; nothing names them |
//! | `test` | reads them back and proves the keys |
//! | `promote` | makes them current, if what was current at the first `flip` still is |
//! | `flip` | the pointer names them: from here on the old keys are dead, for everyone, at once |
//! | `settle` | takes the last labels off the old versions |
//!
//! Each `settle` goes by the labels its `flip` has seen; if others moved them meanwhile, both are repeated.
//!
//! A crash after any of them leaves the pointer naming keys that can be read. Whoever comes next heals.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::access::AccessKeys;
use super::cache::KeyLoadError;
use super::pointer::{Pointer, Published, PublishedKeys};
use super::signing::{SigningKey, SigningKeys};
use super::{AccessSlot, KeyMaterialError, Slot};
use crate::audit::{Audit, KeyEvent, Outcome};
use crate::error_chain::error_chain;
use crate::runtime::{Clock, Random};
use crate::secrets::{
    MoveOutcome, SecretName, SecretStoreError, SecretStoreWriter, StagingLabel, StagingLabels, VersionId,
};
use crate::store::{PointerWriteOutcome, PointerWriter, StoreError};

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A fresh signing key in every slot: every token dies.
    RotateSigningKeys,
    /// A fresh access key and the signing key of its slot: the tokens minted through it die.
    RegenerateAccessKey(AccessSlot),
}

/// Who had keys replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Deployment,
    Operator,
    Schedule,
}

/// What is being done to keys, as logs name it, and at whose instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    pub operation: &'static str,
    pub trigger: Trigger,
}

/// The cause of every scheduled step.
const SCHEDULED: Cause = Cause { operation: Change::RotateSigningKeys.as_str(), trigger: Trigger::Schedule };

/// Keys were not replaced, or it is unclear whether they were. Repeating is always safe: an operator's
/// repetition starts afresh.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Somebody else is replacing keys; theirs stands.
    #[error("another rotation came in between")]
    Conflict,
    /// A step of a scheduled rotation for a version that is neither pending nor current.
    #[error("the version is not pending: another rotation took its place")]
    NotPending,
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SecretStoreError> for RotationError {
    fn from(error: SecretStoreError) -> Self {
        Self::Key(error.into())
    }
}

impl From<KeyMaterialError> for RotationError {
    fn from(fault: KeyMaterialError) -> Self {
        Self::Key(fault.into())
    }
}

/// Where keys are replaced.
#[derive(Clone, Copy)]
pub struct KeyPorts<'a> {
    pub pointers: &'a dyn PointerWriter,
    pub secret_store: &'a dyn SecretStoreWriter,
}

/// Replaces keys, and sets them up.
#[derive(Clone, Copy)]
pub struct Rotator<'a> {
    pub ports: KeyPorts<'a>,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Random,
    /// Makes one signing key of the deployment's algorithm.
    pub generate: &'a (dyn Fn() -> Result<SigningKey, KeyMaterialError> + Sync),
    pub audit: &'a dyn Audit,
}

/// The versions that are to be put in force, and those they replace.
struct Replacement {
    change: Change,
    base: Pointer,
    signing_keys: VersionId,
    /// Only a regeneration has one.
    access_keys: Option<VersionId>,
}

/// The pointer, and the labels that were read after it and before anything was moved.
struct Aligned {
    pointer: Pointer,
    access_keys: StagingLabels,
    signing_keys: StagingLabels,
}

/// What is done with a version that somebody else left pending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strays {
    Left,
    TakenAway,
}

/// How often labels are settled again when others move them.
const ALIGN_ATTEMPTS: usize = 8;

/// How often a flip looks again when the pointer or the current versions move under it.
const FLIP_ATTEMPTS: usize = 8;

impl Rotator<'_> {
    /// Replaces keys now, with fresh ones whatever went before. When it returns, the old keys are dead.
    ///
    /// # Errors
    /// [`RotationError`]. After [`RotationError::Conflict`] somebody else's keys are in force; after the
    /// others it is unclear whose. Repeating settles it.
    pub async fn run(&self, change: Change) -> Result<Pointer, RotationError> {
        let cause = Cause { operation: change.as_str(), trigger: Trigger::Operator };
        let outcome = self.replace(cause, change).await;
        self.note(cause, "done", outcome.as_ref());
        outcome
    }

    async fn replace(&self, cause: Cause, change: Change) -> Result<Pointer, RotationError> {
        let base = self.align(cause, Strays::Left).await?;
        let replacement = self.noted(cause, "store", self.store_fresh(change, base).await)?;
        let outcome = self.put_in_force(cause, &replacement).await;
        if outcome.is_err() {
            // Only what never became current: the rest is settled by whoever comes next.
            self.abandon(&replacement).await;
        }
        outcome
    }

    async fn put_in_force(&self, cause: Cause, replacement: &Replacement) -> Result<Pointer, RotationError> {
        self.noted(cause, "test", self.test(replacement).await)?;
        self.noted(cause, "promote", self.promote(replacement).await)?;
        let pointer = self.align(cause, Strays::Left).await?;
        if replacement.is_named_by(&pointer) { Ok(pointer) } else { Err(RotationError::Conflict) }
    }

    /// `flip`, then `settle` by the labels that the flip has seen; both again if others moved meanwhile.
    pub(super) async fn align(&self, cause: Cause, strays: Strays) -> Result<Pointer, RotationError> {
        let mut last = RotationError::Conflict;
        for _ in 0..ALIGN_ATTEMPTS {
            let aligned = self.noted(cause, "flip", self.flip().await)?;
            match self.noted(cause, "settle", self.settle(&aligned, strays).await) {
                Ok(MoveOutcome::Moved) => return Ok(aligned.pointer),
                Ok(MoveOutcome::Stale) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Has the pointer name the current version of each secret. A lost answer is recognised by reading
    /// again: then the pointer names them already. The pointer only ever moves to a document with a higher
    /// sequence number: labels that are shown late could otherwise lead it back to dead keys.
    async fn flip(&self) -> Result<Aligned, RotationError> {
        let mut last = RotationError::Conflict;
        for _ in 0..FLIP_ATTEMPTS {
            let pointer = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
            let access_keys = self.ports.secret_store.labels(SecretName::AccessKeys).await?;
            let signing_keys = self.ports.secret_store.labels(SecretName::SigningKeys).await?;
            let next = match self.next(&pointer, &access_keys, &signing_keys).await {
                Ok(next) => next,
                // Replaced since it was read as current.
                Err(RotationError::Key(KeyLoadError::SecretStore(SecretStoreError::NoSuchVersion))) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(next) = next else { return Ok(Aligned { pointer, access_keys, signing_keys }) };
            match self.ports.pointers.write_pointer(&next).await {
                Ok(PointerWriteOutcome::Changed) => {
                    return Ok(Aligned { pointer: next, access_keys, signing_keys });
                }
                Ok(PointerWriteOutcome::Conflict) => {}
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// The pointer that names the current versions; nothing if this one does.
    async fn next(
        &self,
        pointer: &Pointer,
        access_keys: &StagingLabels,
        signing_keys: &StagingLabels,
    ) -> Result<Option<Pointer>, RotationError> {
        const LATE: KeyMaterialError =
            KeyMaterialError("the labels are not yet those of the last replacement");
        let secret_store = self.ports.secret_store;
        let access_keys =
            access_keys.version_with(StagingLabel::Current).ok_or(SecretStoreError::NoSuchVersion)?;
        let signing_keys =
            signing_keys.version_with(StagingLabel::Current).ok_or(SecretStoreError::NoSuchVersion)?;
        if pointer.access_keys == *access_keys && pointer.signing_keys == *signing_keys {
            return Ok(None);
        }
        let mut next = Pointer { generation: pointer.generation + 1, ..pointer.clone() };
        if pointer.access_keys != *access_keys {
            let keys = AccessKeys::parse(&secret_store.read(SecretName::AccessKeys, access_keys).await?)?;
            if keys.sequence() <= pointer.access_keys_sequence {
                return Err(LATE.into());
            }
            next.access_keys = access_keys.clone();
            next.access_keys_sequence = keys.sequence();
        }
        if pointer.signing_keys != *signing_keys {
            let keys = SigningKeys::parse(&secret_store.read(SecretName::SigningKeys, signing_keys).await?)?;
            if keys.sequence() <= pointer.signing_keys_sequence {
                return Err(LATE.into());
            }
            next.signing_keys = signing_keys.clone();
            next.signing_keys_sequence = keys.sequence();
            let now = self.clock.now().unix_timestamp();
            next.published = Published::after(&pointer.published, &keys, now)?;
        }
        Ok(Some(next))
    }

    /// Moves the labels after the pointer: `IN_FORCE` to what it names, `AWSPREVIOUS` off what it does not.
    /// By the labels the flip saw, never by newer ones: those may be after another replacement, and this
    /// pointer would take the labels off the versions then in force.
    async fn settle(&self, aligned: &Aligned, strays: Strays) -> Result<MoveOutcome, RotationError> {
        let Aligned { pointer, access_keys, signing_keys } = aligned;
        let mut outcome = MoveOutcome::Moved;
        for (secret, named, seen) in [
            (SecretName::AccessKeys, &pointer.access_keys, access_keys),
            (SecretName::SigningKeys, &pointer.signing_keys, signing_keys),
        ] {
            let holder = |label| seen.version_with(label).filter(|holder| *holder != named);
            let stray = holder(StagingLabel::Pending).filter(|_| strays == Strays::TakenAway);
            let mut moves = Vec::new();
            if !seen.is_on(StagingLabel::InForce, named) {
                moves.push((StagingLabel::InForce, holder(StagingLabel::InForce), Some(named)));
            }
            moves.extend(
                holder(StagingLabel::Previous).map(|holder| (StagingLabel::Previous, Some(holder), None)),
            );
            moves.extend(stray.map(|holder| (StagingLabel::Pending, Some(holder), None)));
            for (label, from, to) in moves {
                if self.ports.secret_store.move_label(secret, label, from, to).await? == MoveOutcome::Stale {
                    outcome = MoveOutcome::Stale;
                }
            }
        }
        Ok(outcome)
    }

    /// Makes the new keys and stores them as pending versions, the signing keys first.
    async fn store_fresh(&self, change: Change, base: Pointer) -> Result<Replacement, RotationError> {
        let signing_keys = VersionId::random(self.random);
        let access_keys = match change {
            Change::RotateSigningKeys => None,
            Change::RegenerateAccessKey(_) => Some(VersionId::random(self.random)),
        };
        let replacement = Replacement { change, base, signing_keys, access_keys };
        self.store(&replacement).await?;
        Ok(replacement)
    }

    async fn store(&self, replacement: &Replacement) -> Result<(), RotationError> {
        let secret_store = self.ports.secret_store;
        let base = &replacement.base;
        let fresh = match replacement.change {
            Change::RotateSigningKeys => {
                SigningKeys::generate(base.signing_keys_sequence + 1, self.generate)?
            }
            Change::RegenerateAccessKey(slot) => {
                let keys = SigningKeys::parse(
                    &secret_store.read(SecretName::SigningKeys, &base.signing_keys).await?,
                )?;
                keys.with(slot.into(), (self.generate)()?)
            }
        };
        let document = fresh.to_document();
        secret_store
            .store(SecretName::SigningKeys, &replacement.signing_keys, &document, StagingLabel::Pending)
            .await?;
        if let (Change::RegenerateAccessKey(slot), Some(version)) =
            (replacement.change, &replacement.access_keys)
        {
            let keys =
                AccessKeys::parse(&secret_store.read(SecretName::AccessKeys, &base.access_keys).await?)?;
            let document = keys.regenerated(slot, self.random).to_document();
            secret_store.store(SecretName::AccessKeys, version, &document, StagingLabel::Pending).await?;
        }
        Ok(())
    }

    /// Reads the stored versions back: they parse, each key signs what its public half verifies, the
    /// slots that were to change have new keys, and the others have not changed.
    async fn test(&self, replacement: &Replacement) -> Result<(), RotationError> {
        let secret_store = self.ports.secret_store;
        let gone = |error| match error {
            SecretStoreError::NoSuchVersion => RotationError::Conflict,
            error => error.into(),
        };
        let document =
            secret_store.read(SecretName::SigningKeys, &replacement.signing_keys).await.map_err(gone)?;
        let keys = SigningKeys::parse(&document)?;
        let published = PublishedKeys::parse(&replacement.base.published)?;
        for slot in Slot::ALL {
            let changes = match replacement.change {
                Change::RotateSigningKeys => true,
                Change::RegenerateAccessKey(regenerated) => slot == regenerated.into(),
            };
            if published.find(keys.of(slot).id()).is_none() != changes {
                return Err(
                    KeyMaterialError("a stored signing key is not the one that was to be stored").into()
                );
            }
        }
        if let Some(version) = &replacement.access_keys {
            AccessKeys::parse(&secret_store.read(SecretName::AccessKeys, version).await.map_err(gone)?)?;
        }
        Ok(())
    }

    /// Makes the new versions current. The signing keys first: a crash in between then ends tokens, which
    /// clients can get again, and not an access key that nobody was told the successor of.
    async fn promote(&self, replacement: &Replacement) -> Result<(), RotationError> {
        let base = &replacement.base;
        self.make_current(SecretName::SigningKeys, &base.signing_keys, &replacement.signing_keys).await?;
        if let Some(version) = &replacement.access_keys {
            self.make_current(SecretName::AccessKeys, &base.access_keys, version).await?;
        }
        Ok(())
    }

    async fn make_current(
        &self,
        secret: SecretName,
        from: &VersionId,
        to: &VersionId,
    ) -> Result<(), RotationError> {
        match self.ports.secret_store.move_label(secret, StagingLabel::Current, Some(from), Some(to)).await? {
            MoveOutcome::Moved => Ok(()),
            MoveOutcome::Stale => Err(RotationError::Conflict),
        }
    }

    /// Takes the pending label off versions that will not be put in force, so that they vanish.
    async fn abandon(&self, replacement: &Replacement) {
        let versions = [
            (SecretName::SigningKeys, Some(&replacement.signing_keys)),
            (SecretName::AccessKeys, replacement.access_keys.as_ref()),
        ];
        for (secret, version) in versions {
            if let Some(version) = version {
                // What cannot be cleaned up now is displaced by the next version that is stored.
                let _ = self
                    .ports
                    .secret_store
                    .move_label(secret, StagingLabel::Pending, Some(version), None)
                    .await;
            }
        }
    }
}

/// The four steps in which Secrets Manager drives a scheduled rotation of the signing keys. Each may be
/// repeated with its version; the version decides, so a repetition never makes another key.
impl Rotator<'_> {
    /// `createSecret`: heals, then stores fresh keys under the version, unless it has some already. The first
    /// rotation of a new resource sets it up, and has done with that.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn create(&self, version: &VersionId) -> Result<(), RotationError> {
        let outcome = async {
            if self.ports.pointers.pointer().await?.is_none() {
                self.set_up().await?;
            }
            if self.stage(version).await? == Stage::Current {
                return Ok(());
            }
            let base = self.align(SCHEDULED, Strays::Left).await?;
            match self.ports.secret_store.read(SecretName::SigningKeys, version).await {
                Ok(_) => Ok(()),
                // The secret store announces the version before it has a value.
                Err(SecretStoreError::NoSuchVersion) => {
                    self.store(&Replacement::scheduled(base, version)).await
                }
                Err(error) => Err(error.into()),
            }
        };
        self.noted(SCHEDULED, "store", outcome.await)
    }

    /// `setSecret`: nothing outside the secret store has to learn of the keys yet.
    ///
    /// # Errors
    /// [`RotationError::NotPending`], or that it cannot be known.
    pub async fn set(&self, version: &VersionId) -> Result<(), RotationError> {
        self.stage(version).await.map(|_| ())
    }

    /// `testSecret`: proves the stored keys.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn try_out(&self, version: &VersionId) -> Result<(), RotationError> {
        let outcome = async {
            if self.stage(version).await? == Stage::Current {
                return Ok(());
            }
            let base = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
            self.test(&Replacement::scheduled(base, version)).await
        };
        self.noted(SCHEDULED, "test", outcome.await)
    }

    /// `finishSecret`: puts the keys in force. When it returns, every older token is dead.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn finish(&self, version: &VersionId) -> Result<Pointer, RotationError> {
        let outcome = async {
            let base = self.align(SCHEDULED, Strays::Left).await?;
            let replacement = Replacement::scheduled(base, version);
            if self.stage(version).await? == Stage::Pending {
                self.noted(SCHEDULED, "promote", self.promote(&replacement).await)?;
            }
            // A version that an operator left pending would keep the schedule from ever beginning again.
            let pointer = self.align(SCHEDULED, Strays::TakenAway).await?;
            if replacement.is_named_by(&pointer) { Ok(pointer) } else { Err(RotationError::Conflict) }
        };
        let outcome = outcome.await;
        self.note(SCHEDULED, "done", outcome.as_ref());
        outcome
    }

    async fn stage(&self, version: &VersionId) -> Result<Stage, RotationError> {
        let labels = self.ports.secret_store.labels(SecretName::SigningKeys).await?;
        if labels.is_on(StagingLabel::Current, version) {
            Ok(Stage::Current)
        } else if labels.is_on(StagingLabel::Pending, version) {
            Ok(Stage::Pending)
        } else {
            Err(RotationError::NotPending)
        }
    }
}

/// How far a scheduled rotation's version has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Current,
    Pending,
}

impl Rotator<'_> {
    fn noted<T>(
        &self,
        cause: Cause,
        step: &'static str,
        outcome: Result<T, RotationError>,
    ) -> Result<T, RotationError> {
        self.note(cause, step, outcome.as_ref());
        outcome
    }

    fn note<T>(&self, cause: Cause, step: &'static str, outcome: Result<&T, &RotationError>) {
        let reached = match outcome {
            Ok(_) => Outcome::Success,
            Err(RotationError::Conflict | RotationError::NotPending) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.audit.keys(&event(self.clock.now(), cause, step, reached, outcome.err()));
    }
}

impl Replacement {
    fn scheduled(base: Pointer, version: &VersionId) -> Self {
        Self { change: Change::RotateSigningKeys, base, signing_keys: version.clone(), access_keys: None }
    }

    fn is_named_by(&self, pointer: &Pointer) -> bool {
        pointer.signing_keys == self.signing_keys
            && self.access_keys.as_ref().is_none_or(|version| pointer.access_keys == *version)
    }
}

impl Change {
    /// The change's name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RotateSigningKeys => "rotate_signing_keys",
            Self::RegenerateAccessKey(AccessSlot::Primary) => "regenerate_primary",
            Self::RegenerateAccessKey(AccessSlot::Secondary) => "regenerate_secondary",
        }
    }
}

impl Trigger {
    /// The trigger's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::Operator => "operator",
            Self::Schedule => "schedule",
        }
    }
}

/// The audit line of a step.
fn event(
    now: OffsetDateTime,
    cause: Cause,
    step: &'static str,
    outcome: Outcome,
    error: Option<&RotationError>,
) -> KeyEvent {
    KeyEvent {
        time: now.format(&Rfc3339).unwrap_or_default(),
        operation: cause.operation,
        trigger: cause.trigger.as_str(),
        step,
        outcome,
        reason: error.map(|error| error_chain(error)),
    }
}
