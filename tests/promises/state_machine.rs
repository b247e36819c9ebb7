//! Random histories against a model. After every step, the test verifies every token that was minted so far, because a
//! spot check would miss a token that becomes active again.

use e2e::faults::Fault;
use e2e::test_service::{Reply, TestService};
use identity::keys::AccessSlot;
use identity::keys::rotation::Change;
use identity::keys::{Algorithm, Slot};
use identity::token::verify::VerifyError;
use proptest::prelude::*;

use crate::random_histories::{self, Backend};

/// One step of a history. A step chooses an identity by an index, modulo the number of identities.
#[derive(Clone, Debug)]
enum Step {
    Advance {
        minutes: u16,
    },
    Create {
        with_token: bool,
    },
    Delete(usize),
    DeliverLate,
    /// The faults of the next calls.
    Faults(Vec<Fault>),
    Issue(usize, Slot),
    /// Rotates or regenerates.
    ReplaceKeys(Change),
    Restart,
    Revoke(usize),
}

/// A token and the verdicts that the promises permit for it.
struct Minted {
    token: String,
    identity: usize,
    slot: Slot,
    /// The minute of expiry, on the model's clock.
    expires_at: u32,
    /// A revocation that began after the issue of the token has returned success.
    must_be_inactive: bool,
    /// A revocation with an unclear outcome may have included the token.
    may_be_inactive: bool,
    /// The verifier has refused the token once.
    was_refused: bool,
}

struct Model {
    backend: Backend,
    service: TestService,
    identities: Vec<Identity>,
    tokens: Vec<Minted>,
    minutes: u32,
    faults: Vec<Fault>,
    /// A replacement of keys with an unclear outcome may still take effect.
    has_unclear_replacement: bool,
}

struct Identity {
    id: String,
    deleted: bool,
    maybe_deleted: bool,
    /// A write with an unclear outcome may still arrive, and may revoke tokens that are issued before it arrives.
    has_unclear_write: bool,
}

impl Model {
    async fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step).await;
            self.backend.plan_both(Vec::new());
            self.verify_all(step).await;
        }
    }

    async fn step(&mut self, step: &Step) {
        let faults = std::mem::take(&mut self.faults);
        self.backend.plan_both(faults.clone());
        let faulty = !faults.is_empty();
        match step {
            Step::Advance { minutes } => {
                self.minutes += u32::from(*minutes);
                self.service.clock.advance(i64::from(*minutes) * 60_000);
            }
            Step::Create { with_token } => self.create(*with_token, faulty).await,
            Step::Delete(pick) => self.end(*pick, true, faulty).await,
            Step::DeliverLate => {
                self.backend.plan_both(Vec::new());
                self.backend.deliver_late_to_both().await;
                for identity in &mut self.identities {
                    identity.has_unclear_write = false;
                }
                self.has_unclear_replacement = false;
                self.service.learn_access_keys().await;
            }
            Step::Faults(faults) => self.faults = faults.clone(),
            Step::Issue(pick, slot) => self.issue(*pick, *slot, faulty).await,
            Step::ReplaceKeys(change) => self.replace_keys(*change, faulty).await,
            Step::Restart => self.service.restart(),
            Step::Revoke(pick) => self.end(*pick, false, faulty).await,
        }
    }

    async fn create(&mut self, with_token: bool, faulty: bool) {
        let body = if with_token { r#"{"createTokenWithScopes":["voip","chat"]}"# } else { "" };
        let reply = self.service.send("POST", "/identities?api-version=2023-10-01", body).await;
        if reply.status == 503 && faulty {
            return;
        }
        assert_eq!(reply.status, 201, "{}", reply.text);
        let id = reply.id().unwrap();
        assert!(self.identities.iter().all(|known| known.id != id), "two identities have the same id");
        self.identities.push(Identity { id, deleted: false, maybe_deleted: false, has_unclear_write: false });
        if with_token {
            self.keep(&reply, self.identities.len() - 1, Slot::Primary);
        }
    }

    async fn issue(&mut self, pick: usize, slot: Slot, faulty: bool) {
        let Some(index) = pick.checked_rem(self.identities.len()) else {
            return;
        };
        let identity = &self.identities[index];
        let reply = self.service.issue(self.service.key(slot), &identity.id).await;
        match reply.status {
            200 => {
                assert!(!identity.deleted, "a deleted identity got a token");
                self.keep(&reply, index, slot);
            }
            404 => assert!(identity.deleted || identity.maybe_deleted, "{}", reply.text),
            status => assert!(status == 503 && faulty, "{}", reply.text),
        }
    }

    /// Revokes the tokens of an identity, or deletes the identity.
    async fn end(&mut self, pick: usize, deletes: bool, faulty: bool) {
        let Some(index) = pick.checked_rem(self.identities.len()) else {
            return;
        };
        let identity = &mut self.identities[index];
        let reply = if deletes {
            self.service.delete(&identity.id).await
        } else {
            self.service.revoke(&identity.id).await
        };
        match reply.status {
            204 => {
                identity.deleted |= deletes;
                // The revision is higher now, so a late revoke has no effect. A late delete still has.
                identity.has_unclear_write &= identity.maybe_deleted;
            }
            404 => {
                assert!(!deletes && (identity.deleted || identity.maybe_deleted), "{}", reply.text);
                identity.deleted = true;
            }
            status => {
                assert!(status == 503 && faulty, "{}", reply.text);
                identity.maybe_deleted |= deletes;
                identity.has_unclear_write = true;
            }
        }
        for minted in self.tokens.iter_mut().filter(|minted| minted.identity == index) {
            minted.must_be_inactive |= reply.status != 503;
            minted.may_be_inactive = true;
        }
    }

    async fn replace_keys(&mut self, change: Change, faulty: bool) {
        let outcome = self.service.replace_keys(change).await;
        self.backend.plan_both(Vec::new());
        assert!(outcome.is_ok() || faulty, "{outcome:?}");
        let is_revoked = |slot: Slot| match change {
            Change::RotateSigningKeys => true,
            Change::RegenerateAccessKey(regenerated) => slot == regenerated.into(),
        };
        // A replacement that failed may revoke tokens of any slot, and so may the replacement that repairs it.
        let unclear = outcome.is_err() || self.has_unclear_replacement;
        for minted in &mut self.tokens {
            minted.must_be_inactive |= outcome.is_ok() && is_revoked(minted.slot);
            minted.may_be_inactive |= unclear || is_revoked(minted.slot);
        }
        self.has_unclear_replacement = outcome.is_err();
        self.service.learn_access_keys().await;
    }

    fn keep(&mut self, reply: &Reply, identity: usize, slot: Slot) {
        self.tokens.push(Minted {
            token: reply.token().unwrap(),
            identity,
            slot,
            expires_at: self.minutes + 1_440,
            must_be_inactive: false,
            may_be_inactive: self.has_unclear_replacement
                || self.identities[identity].has_unclear_write
                || self.identities[identity].maybe_deleted,
            was_refused: false,
        });
    }

    async fn verify_all(&mut self, after: &Step) {
        for (index, minted) in self.tokens.iter_mut().enumerate() {
            let expired = self.minutes >= minted.expires_at;
            match self.service.verify(&minted.token).await {
                Ok(_) => {
                    let must_be_refused = minted.must_be_inactive || minted.was_refused || expired;
                    assert!(!must_be_refused, "S1: token {index} is accepted after {after:?}");
                }
                Err(VerifyError::Refused(error)) => {
                    let may_be_refused = minted.must_be_inactive || minted.may_be_inactive || expired;
                    assert!(may_be_refused, "S2: token {index} is refused after {after:?}: {error}");
                    minted.was_refused = true;
                }
                Err(error) => panic!("token {index} has no verdict after {after:?}: {error}"),
            }
        }
    }
}

const CHANGES: [Change; 3] = [
    Change::RotateSigningKeys,
    Change::RegenerateAccessKey(AccessSlot::Primary),
    Change::RegenerateAccessKey(AccessSlot::Secondary),
];

fn step() -> impl Strategy<Value = Step> {
    let fault = prop::sample::select(Fault::ALL.to_vec());
    let slot = prop::sample::select(vec![Slot::Primary, Slot::Secondary]);
    let identity = 0_usize..4;
    prop_oneof![
        2 => any::<bool>().prop_map(|with_token| Step::Create { with_token }),
        6 => (identity.clone(), slot).prop_map(|(pick, slot)| Step::Issue(pick, slot)),
        4 => identity.clone().prop_map(Step::Revoke),
        1 => identity.prop_map(Step::Delete),
        3 => prop::collection::vec(fault, 1..5).prop_map(Step::Faults),
        1 => Just(Step::DeliverLate),
        1 => (0_u16..800).prop_map(|minutes| Step::Advance { minutes }),
        1 => Just(Step::Restart),
        1 => prop::sample::select(CHANGES.to_vec()).prop_map(Step::ReplaceKeys),
    ]
}

fn check(cases: u32, embedded: bool) {
    random_histories::run(cases, 40, step(), async |seed, steps: &[Step]| {
        let (ports, backend) = Backend::open(embedded, seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        let (identities, tokens) = (Vec::new(), Vec::new());
        let mut model = Model {
            backend,
            service,
            identities,
            tokens,
            minutes: 0,
            faults: Vec::new(),
            has_unclear_replacement: false,
        };
        model.run(steps).await;
    });
}

#[test]
fn random_histories_keep_the_promises_in_memory() {
    check(400, false);
}

#[test]
fn random_histories_keep_the_promises_over_the_adapters() {
    check(40, true);
}
