//! The first keys of a new resource, made by the deployment's event or by the secret's first rotation. The set-up is
//! interrupted at every call. The next run must complete it: the keys sign, and the staging labels show Secrets Manager
//! a completed rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, TestService};
use identity::keys::Algorithm;
use identity::keys::rotation::{KeyPorts, RotationError, Rotator};
use identity::secrets::VersionId;
use identity::secrets::{SecretName, StagingLabel};
use identity::testing::{CapturedAudit, FrozenClock, SeededRandom, signing_key};

/// The trigger of the set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Event,
    Rotation,
}

struct NewResource {
    ports: Ports,
    embedded: Embedded,
    version: VersionId,
}

impl NewResource {
    async fn new(maker: Maker) -> Self {
        let (ports, embedded) = Ports::embedded(11).await;
        let version = VersionId::new("5c4ed001-0000-4000-8000-000000000001");
        if maker == Maker::Rotation {
            embedded.begin_rotation(SecretName::SigningKeys.as_str(), version.as_str());
        }
        Self { ports, embedded, version }
    }

    async fn make(&self, maker: Maker) -> Result<(), RotationError> {
        let (clock, random, audit) =
            (FrozenClock::at_noon(), SeededRandom::new(11), CapturedAudit::default());
        let next = AtomicUsize::new(0);
        let rotator = Rotator {
            ports: KeyPorts {
                pointers: self.ports.pointers.as_ref(),
                secret_store: self.ports.secret_store_writer.as_ref(),
            },
            clock: clock.as_ref(),
            random: &random,
            generate: &|| Ok(signing_key(Algorithm::Es256, next.fetch_add(1, Ordering::SeqCst))),
            audit: &audit,
        };
        match maker {
            Maker::Event => rotator.set_up().await.map(|_| ()),
            Maker::Rotation => {
                rotator.create(&self.version).await?;
                rotator.set(&self.version).await?;
                rotator.try_out(&self.version).await?;
                rotator.finish(&self.version).await.map(|_| ())
            }
        }
    }

    /// Lets every call from number `at` on fail, or only that call.
    fn break_at(&self, at: usize, fault: Fault, for_good: bool) {
        let calls = Arc::new(AtomicUsize::new(0));
        for client in [&self.embedded.dynamodb, &self.embedded.secrets] {
            let calls = Arc::clone(&calls);
            client.plan(move |_| {
                let call = calls.fetch_add(1, Ordering::SeqCst);
                let is_broken = if for_good { call >= at } else { call == at };
                is_broken.then_some(fault)
            });
        }
    }

    fn repair(&self) {
        self.embedded.dynamodb.plan(|_| None);
        self.embedded.secrets.plan(|_| None);
    }

    fn calls(&self) -> usize {
        self.embedded.dynamodb.calls() + self.embedded.secrets.calls()
    }

    /// Checks that the keys sign and that the set-up is complete: each version in the pointer has the labels
    /// `AWSCURRENT` and `IN_FORCE`, and no other version has `AWSPENDING`.
    async fn assert_complete(self, case: &str) {
        let service = TestService::new(self.ports, Algorithm::Es256, 11).await;
        let id = service.create().await;
        let token = service.issue(&service.secondary, &id).await.token().unwrap();
        assert!(service.verify(&token).await.is_ok(), "{case}");
        let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
        assert_eq!((pointer.generation, pointer.signing_keys_sequence), (1, 1), "{case}");
        for (secret, named) in
            [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
        {
            let labels = service.ports.secret_store_writer.labels(secret).await.unwrap();
            assert!(labels.is_on(StagingLabel::Current, named), "{case}: {secret:?}");
            assert!(labels.is_on(StagingLabel::InForce, named), "{case}: {secret:?}");
            assert!(
                labels.version_with(StagingLabel::Pending).is_none_or(|pending| pending == named),
                "{case}: {secret:?}"
            );
        }
    }
}

#[tokio::test]
async fn first_rotation_sets_up_the_resource() {
    let resource = NewResource::new(Maker::Rotation).await;
    resource.make(Maker::Rotation).await.unwrap();
    let pointer = resource.ports.pointers.pointer().await.unwrap().unwrap();
    assert_eq!(pointer.signing_keys, resource.version, "the announced version holds the first keys");
    resource.assert_complete("without a failure").await;
}

#[tokio::test]
async fn repeated_set_up_keeps_the_pointer() {
    let resource = NewResource::new(Maker::Event).await;
    resource.make(Maker::Event).await.unwrap();
    let before = resource.ports.pointers.pointer().await.unwrap();
    resource.make(Maker::Event).await.unwrap();
    assert_eq!(resource.ports.pointers.pointer().await.unwrap(), before);
}

/// The deployment's event and the secret's first rotation run in both orders.
#[tokio::test]
async fn event_and_rotation_agree_in_either_order() {
    for order in [[Maker::Event, Maker::Rotation], [Maker::Rotation, Maker::Event]] {
        let resource = NewResource::new(Maker::Rotation).await;
        for maker in order {
            resource.make(maker).await.unwrap();
        }
        resource.assert_complete(&format!("{order:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn interrupted_set_up_is_finished_by_next_run() {
    for maker in [Maker::Event, Maker::Rotation] {
        let unbroken = NewResource::new(maker).await;
        let before = unbroken.calls();
        unbroken.make(maker).await.unwrap();
        let calls = unbroken.calls() - before;
        assert!(calls > 8, "{calls} calls");
        for at in 0..calls {
            for fault in [Fault::BreakBefore, Fault::BreakAfter] {
                for (for_good, next) in [(true, maker), (true, Maker::Event), (false, maker)] {
                    let case = format!("{maker:?}, {fault:?} at {at}, for good: {for_good}, then {next:?}");
                    let resource = NewResource::new(maker).await;
                    resource.break_at(at, fault, for_good);
                    // The outcome of the interrupted run is unclear. The next run must not depend on it.
                    let _ = resource.make(maker).await;
                    resource.repair();
                    resource.make(next).await.unwrap_or_else(|error| panic!("{case}: {error}"));
                    resource.assert_complete(&case).await;
                }
            }
        }
    }
}

/// An unreadable value may exist. It must not be replaced, and must not come into force before it is read.
#[tokio::test(start_paused = true)]
async fn unreadable_value_is_not_treated_as_missing() {
    let resource = NewResource::new(Maker::Rotation).await;
    let unreadable = |operation: &str| (operation == "GetSecretValue").then_some(Fault::InternalError);
    resource.embedded.secrets.plan(unreadable);
    assert!(resource.make(Maker::Rotation).await.is_err());
    let labels = resource.ports.secret_store_writer.labels(SecretName::SigningKeys).await.unwrap();
    assert!(labels.version_with(StagingLabel::Current).is_none(), "an unread version is not current");
    resource.repair();
    resource.make(Maker::Rotation).await.unwrap();
    resource.assert_complete("the value is readable again").await;
}

/// A write of an earlier attempt may arrive last. It must not change the current version.
#[tokio::test(start_paused = true)]
async fn late_writes_do_not_change_the_first_keys() {
    for operation in ["PutSecretValue", "UpdateSecretVersionStage", "TransactWriteItems"] {
        for maker in [Maker::Event, Maker::Rotation] {
            let resource = NewResource::new(maker).await;
            for client in [&resource.embedded.dynamodb, &resource.embedded.secrets] {
                client.plan(move |called| (called == operation).then_some(Fault::Late));
            }
            assert!(resource.make(maker).await.is_err(), "{operation}");
            resource.repair();
            resource.make(Maker::Event).await.unwrap();
            let before = resource.ports.pointers.pointer().await.unwrap();
            resource.embedded.dynamodb.deliver_late().await;
            resource.embedded.secrets.deliver_late().await;
            resource.make(Maker::Event).await.unwrap();
            assert_eq!(resource.ports.pointers.pointer().await.unwrap(), before, "{operation}, {maker:?}");
            let labels = resource.ports.secret_store_writer.labels(SecretName::SigningKeys).await.unwrap();
            assert!(
                labels.is_on(StagingLabel::Current, &before.unwrap().signing_keys),
                "{operation}, {maker:?}"
            );
        }
    }
}

#[tokio::test]
async fn concurrent_set_ups_agree() {
    for makers in [[Maker::Event, Maker::Event], [Maker::Rotation, Maker::Event]] {
        let resource = NewResource::new(makers[0]).await;
        let (first, second) = tokio::join!(resource.make(makers[0]), resource.make(makers[1]));
        assert!(first.is_ok() || second.is_ok(), "{first:?}, {second:?}");
        resource.make(Maker::Event).await.unwrap();
        resource.assert_complete(&format!("{makers:?}")).await;
    }
}
