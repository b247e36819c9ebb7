//! Changes of the credentials of resource servers, on the call of an operator.

use time::format_description::well_known::Rfc3339;

use crate::audit::{Audit, KeyEvent, Outcome};
use crate::error_chain::error_chain;
use crate::keys::rotation::Trigger;
use crate::runtime::{Clock, Random};
use crate::store::resource_servers::{
    ResourceServerChange, ResourceServerError, ResourceServerId, ResourceServerSecret, ResourceServerWriter,
    ResourceServersWriteOutcome, StoredSecret,
};

/// Attempts of a change while other changes come first.
const CHANGE_ATTEMPTS: usize = 5;

/// Changes credentials on the call of an operator.
#[derive(Clone, Copy)]
pub struct ResourceServerOperator<'a> {
    pub writer: &'a dyn ResourceServerWriter,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Random,
    pub audit: &'a dyn Audit,
}

impl ResourceServerOperator<'_> {
    /// Makes a change, and writes its audit line. Returns the new secret of [`ResourceServerChange::Add`] and
    /// [`ResourceServerChange::Rotate`].
    ///
    /// # Errors
    /// [`ResourceServerError`].
    pub async fn run(
        &self,
        id: &ResourceServerId,
        change: ResourceServerChange,
    ) -> Result<Option<ResourceServerSecret>, ResourceServerError> {
        let changed = self.change(id, change).await;
        let outcome = match &changed {
            Ok(_) => Outcome::Success,
            Err(ResourceServerError::Store(_)) => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        self.audit.keys(&KeyEvent {
            time: self.clock.now().format(&Rfc3339).unwrap_or_default(),
            level: outcome.level(),
            operation: change.as_str(),
            trigger: Trigger::Operator.as_str(),
            step: "done",
            resource_server: Some(id.to_string()),
            outcome,
            reason: changed.as_ref().err().map(|error| error_chain(error)),
        });
        changed
    }

    async fn change(
        &self,
        id: &ResourceServerId,
        change: ResourceServerChange,
    ) -> Result<Option<ResourceServerSecret>, ResourceServerError> {
        let (secret, now) = (ResourceServerSecret::generate(self.random), self.clock.now());
        let fresh = StoredSecret { sha256: secret.hash(), created_at: now.unix_timestamp() };
        let mut stored = self.writer.resource_servers().await?;
        for _ in 0..CHANGE_ATTEMPTS {
            let next = stored.after(id, change, &fresh)?;
            let outcome = self.writer.write_resource_servers(&next, id, now).await?;
            if outcome == ResourceServersWriteOutcome::Conflict {
                stored = self.writer.resource_servers().await?;
                // An attempt whose answer was lost is recognised by its own effect.
                if stored.credentials.get(id) != next.credentials.get(id) {
                    continue;
                }
            }
            let shows = matches!(change, ResourceServerChange::Add | ResourceServerChange::Rotate);
            return Ok(shows.then_some(secret));
        }
        Err(ResourceServerError::Conflict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Fault, Memory};
    use crate::store::resource_servers::{Credential, SecretHash};
    use crate::testing::{CapturedAudit, FrozenClock, SeededRandom};

    fn id(text: &str) -> ResourceServerId {
        text.parse().unwrap()
    }

    async fn run(
        memory: &Memory,
        name: &str,
        kind: ResourceServerChange,
        seed: u64,
    ) -> Result<Option<SecretHash>, ResourceServerError> {
        let (clock, random) = (FrozenClock::at_noon(), SeededRandom::new(seed));
        let audit = CapturedAudit::default();
        let operator =
            ResourceServerOperator { writer: memory, clock: clock.as_ref(), random: &random, audit: &audit };
        let secret = operator.run(&id(name), kind).await;
        let line = audit.lines().remove(0);
        assert!(line.contains(&format!(r#""resourceServer":"{name}""#)), "{line}");
        let secret = secret?;
        assert!(secret.as_ref().is_none_or(|secret| !line.contains(secret.expose())));
        Ok(secret.map(|secret| secret.hash()))
    }

    async fn credential(memory: &Memory, name: &str) -> Credential {
        memory.resource_servers().await.unwrap().credentials.remove(&id(name)).unwrap_or_default()
    }

    #[tokio::test]
    async fn roll_over_keeps_the_secret_in_use_until_it_is_finished() {
        use ResourceServerChange::{Add, FinishRotation, Remove, Rotate};
        let memory = Memory::default();
        let first = run(&memory, "a", Add, 1).await.unwrap().unwrap();
        let lost = run(&memory, "a", Rotate, 2).await.unwrap().unwrap();
        let second = run(&memory, "a", Rotate, 3).await.unwrap().unwrap();
        let during = credential(&memory, "a").await;
        assert_eq!([&first, &lost, &second].map(|hash| during.admits(hash)), [true, false, true]);
        for _ in 0..2 {
            assert!(run(&memory, "a", FinishRotation, 4).await.unwrap().is_none());
            let after = credential(&memory, "a").await;
            assert_eq!([&first, &lost, &second].map(|hash| after.admits(hash)), [false, false, true]);
        }
        assert!(run(&memory, "a", Remove, 5).await.unwrap().is_none());
        assert!(!credential(&memory, "a").await.admits(&second));
        for kind in [Remove, Rotate, FinishRotation] {
            assert!(matches!(run(&memory, "a", kind, 6).await, Err(ResourceServerError::Unknown(_))));
        }
    }

    #[tokio::test]
    async fn twenty_first_resource_server_is_refused() {
        use ResourceServerChange::{Add, Remove};
        let memory = Memory::default();
        for n in 0..20 {
            run(&memory, &format!("api-{n}"), Add, n).await.unwrap();
        }
        assert!(matches!(run(&memory, "one-more", Add, 20).await, Err(ResourceServerError::TooMany)));
        assert!(matches!(run(&memory, "api-7", Add, 21).await, Err(ResourceServerError::Exists(_))));
        run(&memory, "api-7", Remove, 22).await.unwrap();
        run(&memory, "one-more", Add, 23).await.unwrap();
    }

    #[tokio::test]
    async fn unclear_write_is_reported_and_its_repetition_is_safe() {
        use ResourceServerChange::{Add, FinishRotation, Rotate};
        let memory = Memory::default();
        let first = run(&memory, "a", Add, 1).await.unwrap().unwrap();
        memory.plan([None, Some(Fault::After)]);
        assert!(matches!(run(&memory, "a", Rotate, 2).await, Err(ResourceServerError::Store(_))));
        let second = run(&memory, "a", Rotate, 3).await.unwrap().unwrap();
        let during = credential(&memory, "a").await;
        assert!(during.admits(&first) && during.admits(&second) && during.secrets().len() == 2);
        run(&memory, "a", FinishRotation, 4).await.unwrap();
        assert!(!credential(&memory, "a").await.admits(&first));
    }
}
