//! An embedded stand-in for AWS Secrets Manager, behind the HTTP client interface of the AWS SDK.
//!
//! This module owns the wire protocol (AWS JSON 1.1, the operation in `x-amz-target`) and the one lock. `operations`
//! owns the requests and answers, `versions` the rules, and `state_file` the file. Anything unsupported is refused by
//! name, and no member is ignored.
//!
//! Where AWS leaves room, the rules take the strictest reading. A protocol that works here then works there:
//!
//! * AWS may delete a version without a label. Here the version is deleted at once, value and id.
//! * A version that is put by hand abandons the rotation in progress. Here any new version does, whatever its labels:
//!   `AWSPENDING` leaves the version of that rotation.
//! * A label moves only from its holder, given by name. So the repeat of a move whose answer was lost is refused, and
//!   the caller has to read the labels.
//!
//! Not imitated: reads that lag behind writes, deletion of secrets, tags, encryption, the schedule and the calls of a
//! rotation. The caller makes these calls. [`EmbeddedSecretsManager::begin_rotation`] is the part of AWS before the first
//! one.

mod operations;
mod state_file;
mod versions;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use identity::runtime::{Clock, Random};
use serde::de::DeserializeOwned;
use serde_json::json;

pub use self::state_file::OpenError;
use self::state_file::{Lock, StateFile};
use self::versions::{Secret, Secrets, no_secret};
use crate::sdk_response;

const TARGET_PREFIX: &str = "secretsmanager.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The inputs of the stand-in.
#[derive(Clone)]
pub struct Environment {
    /// The clock, for the dates of secrets and versions.
    pub clock: Arc<dyn Clock>,
    /// The source of ARN suffixes and of version ids that a caller does not choose.
    pub random: Arc<dyn Random>,
}

/// An error of the service, in the form of the wire. It never quotes a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServiceError {
    /// AWS's name of the error, such as `ResourceNotFoundException`.
    code: &'static str,
    message: String,
}

fn error(code: &'static str, message: impl Into<String>) -> ServiceError {
    let message = message.into();
    ServiceError { code, message }
}

fn invalid_parameter(message: impl Into<String>) -> ServiceError {
    error("InvalidParameterException", message)
}

fn invalid_request(message: impl Into<String>) -> ServiceError {
    error("InvalidRequestException", message)
}

fn not_found(message: impl Into<String>) -> ServiceError {
    error("ResourceNotFoundException", message)
}

/// A Secrets Manager in this process. Clones share one state.
///
/// Give it to an SDK configuration as its HTTP client. The region, the endpoint and the credentials of that configuration
/// must be set, as for AWS. The stand-in ignores them.
///
/// Values are wiped from memory when they are deleted. The bytes of requests and answers belong to the SDK, so they are
/// not wiped.
#[derive(Clone)]
pub struct EmbeddedSecretsManager {
    inner: Arc<Inner>,
}

struct Inner {
    environment: Environment,
    file: Option<StateFile>,
    /// The lock of secrets in memory.
    _lock: Option<Lock>,
    secrets: Mutex<Secrets>,
}

impl EmbeddedSecretsManager {
    /// Opens the secrets in the file `path`. The first change makes the file, readable by its owner only. Its directory
    /// must exist. A file with `.lock` added to its name keeps other processes away.
    ///
    /// The answer to a change is given after the changed file is on the disk.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read, is not of this format or is in use.
    pub fn open(path: &Path, environment: Environment) -> Result<Self, OpenError> {
        let (file, secrets) = StateFile::open(path)?;
        Ok(Self::new(Some(file), None, secrets, environment))
    }

    /// Names the resource of the secrets in their file.
    ///
    /// # Errors
    /// [`OpenError`] when the file belongs to another resource or cannot be written.
    pub fn bind(&self, resource: &str) -> Result<(), OpenError> {
        self.inner.file.as_ref().map_or(Ok(()), |file| file.bind(resource, &self.secrets()))
    }

    /// Secrets that are kept until the last clone is dropped.
    #[must_use]
    pub fn in_memory(environment: Environment) -> Self {
        Self::new(None, None, Secrets::default(), environment)
    }

    /// As [`Self::in_memory`]. The lock of the file `path` keeps other processes away from its directory.
    ///
    /// # Errors
    /// [`OpenError`] when the lock is held or cannot be made.
    pub fn in_memory_with_lock(path: &Path, environment: Environment) -> Result<Self, OpenError> {
        Ok(Self::new(None, Some(state_file::lock(path)?), Secrets::default(), environment))
    }

    fn new(file: Option<StateFile>, lock: Option<Lock>, secrets: Secrets, environment: Environment) -> Self {
        let secrets = Mutex::new(secrets);
        let inner = Arc::new(Inner { environment, file, _lock: lock, secrets });
        Self { inner }
    }

    /// Starts a rotation, as AWS does before it calls the rotation function for the first time: puts `AWSPENDING` on a
    /// new version without a value whose id is `token`, and turns rotation on. `secret_id` is the name or the ARN of a
    /// secret. `token` has 32 to 64 characters.
    ///
    /// # Errors
    /// `ResourceNotFoundException` if the secret does not exist. `InvalidRequestException` while `AWSPENDING` is on a
    /// version that is not `AWSCURRENT`. `ResourceExistsException` if `token` is a version already.
    /// `InvalidParameterException` for a `token` of another length.
    pub fn begin_rotation(&self, secret_id: &str, token: &str) -> Result<(), ServiceError> {
        operations::check_token(token)?;
        let now = self.now();
        self.change(secret_id, |secret| secret.begin_rotation(token, now))
    }

    fn now(&self) -> i64 {
        self.inner.environment.clock.now().unix_timestamp()
    }

    fn random(&self) -> &dyn Random {
        self.inner.environment.random.as_ref()
    }

    /// The secrets. A panic elsewhere cannot leave them half changed, because a change replaces them whole.
    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.inner.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change to a copy, saves the copy, and only then makes it visible.
    fn commit<T>(
        &self,
        change: impl FnOnce(&mut Secrets) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let mut secrets = self.secrets();
        let mut changed = secrets.clone();
        let result = change(&mut changed)?;
        if let Some(file) = &self.inner.file {
            file.save(&changed)
                .map_err(|failure| error("InternalServiceError", format!("Not saved: {failure}.")))?;
        }
        *secrets = changed;
        Ok(result)
    }

    fn change<T>(
        &self,
        secret_id: &str,
        change: impl FnOnce(&mut Secret) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        self.commit(|secrets| change(secrets.find_mut(secret_id).ok_or_else(no_secret)?))
    }

    fn answer(&self, request: &HttpRequest) -> Result<String, ServiceError> {
        let operation =
            request.headers().get("x-amz-target").and_then(|target| target.strip_prefix(TARGET_PREFIX));
        // A streaming body has no bytes. No operation here has a streaming body.
        let body = request.body().bytes().unwrap_or_default();
        match operation {
            Some("CreateSecret") => operations::create(self, parse(body)?),
            Some("PutSecretValue") => operations::put(self, parse(body)?),
            Some("GetSecretValue") => operations::get(self, &parse(body)?),
            Some("DescribeSecret") => operations::describe(self, &parse(body)?),
            Some("ListSecretVersionIds") => operations::list_versions(self, &parse(body)?),
            Some("UpdateSecretVersionStage") => operations::update_stage(self, &parse(body)?),
            _ => Err(error("UnknownOperationException", "Not supported here.")),
        }
    }
}

/// Decodes a request. The decoder's message is passed on only if it names a member. Other messages may quote a value.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(body).map_err(|failure| {
        let text = failure.to_string();
        if text.starts_with("unknown field") || text.starts_with("missing field") {
            invalid_parameter(format!("Not supported here: {text}."))
        } else {
            let message = format!("The body is malformed at column {}.", failure.column());
            error("SerializationException", message)
        }
    })
}

/// Only the name, so that no content reaches a log.
impl fmt::Debug for EmbeddedSecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedSecretsManager")
    }
}

impl HttpConnector for EmbeddedSecretsManager {
    /// Answers before it returns. Reads use memory only. Changes write a small file and are as rare as rotations.
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = match self.answer(&request) {
            Ok(body) => (200, body),
            Err(failure) => {
                let status = match failure.code {
                    "InternalServiceError" => 500,
                    _ => 400,
                };
                let body = json!({"__type": failure.code, "Message": failure.message});
                (status, body.to_string())
            }
        };
        sdk_response::ready(status, CONTENT_TYPE, body)
    }
}

impl HttpClient for EmbeddedSecretsManager {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_secretsmanager::Client;
    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
    use aws_sdk_secretsmanager::primitives::Blob;
    use aws_sdk_secretsmanager::types::Tag;
    use identity::testing::{FrozenClock, NOON, SeededRandom};

    use super::*;

    const NAME: &str = "signing-keys";

    fn environment() -> Environment {
        Environment { clock: FrozenClock::at_noon(), random: Arc::new(SeededRandom::new(1)) }
    }

    fn manager() -> EmbeddedSecretsManager {
        EmbeddedSecretsManager::in_memory(environment())
    }

    fn client(manager: &EmbeddedSecretsManager) -> Client {
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "test"))
            .http_client(manager.clone())
            .build();
        Client::from_conf(config)
    }

    /// The version id for `name`, long enough for AWS.
    fn id(name: &str) -> String {
        format!("{name:-<36}")
    }

    /// "ok", or the code of the error.
    fn code<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E>>) -> String {
        match result {
            Ok(_) => "ok".to_owned(),
            Err(SdkError::ServiceError(failure)) => failure.err().code().unwrap().to_owned(),
            Err(_) => "no answer".to_owned(),
        }
    }

    /// One call, by the short names of versions.
    enum Call {
        Create(&'static str, &'static str),
        Put(&'static str, &'static str, &'static [&'static str]),
        /// The label, its holder, the new holder. An empty name is not sent.
        Move(&'static str, &'static str, &'static str),
        Begin(&'static str),
    }
    use Call::{Begin, Create, Move, Put};

    async fn run(manager: &EmbeddedSecretsManager, call: &Call) -> String {
        let client = client(manager);
        let version = |name: &str| (!name.is_empty()).then(|| id(name));
        match call {
            Create(version, value) => {
                let create = client.create_secret().name(NAME).secret_string(*value);
                code(create.client_request_token(id(version)).send().await)
            }
            Put(version, value, labels) => {
                let labels: Vec<_> = labels.iter().map(|label| (*label).to_owned()).collect();
                let put = client.put_secret_value().secret_id(NAME);
                let put = put.client_request_token(id(version)).secret_string(*value);
                let labels = Some(labels).filter(|labels| !labels.is_empty());
                code(put.set_version_stages(labels).send().await)
            }
            Move(label, from, to) => {
                let update = client.update_secret_version_stage().secret_id(NAME);
                let update = update.version_stage(*label);
                let update = update.set_remove_from_version_id(version(from));
                code(update.set_move_to_version_id(version(to)).send().await)
            }
            Begin(version) => match manager.begin_rotation(NAME, &id(version)) {
                Ok(()) => "ok".to_owned(),
                Err(failure) => failure.code.to_owned(),
            },
        }
    }

    /// Every version of the secret with its value and labels, as `v1=one(AWSCURRENT)`.
    async fn picture(manager: &EmbeddedSecretsManager) -> String {
        let client = client(manager);
        let described = client.describe_secret().secret_id(NAME).send().await;
        let stages = described.unwrap().version_ids_to_stages.unwrap();
        let listed = client.list_secret_version_ids().secret_id(NAME).send();
        let listed = listed.await.unwrap();
        let ids = |id: &str| id.trim_end_matches('-').to_owned();
        let named: BTreeSet<_> = stages.keys().cloned().collect();
        let listed = listed.versions().iter().map(|it| it.version_id().unwrap());
        assert_eq!(named, listed.map(str::to_owned).collect());
        let mut parts = Vec::new();
        for version in named {
            let get = client.get_secret_value().secret_id(NAME);
            let value = match get.version_id(&version).send().await {
                Ok(got) => got.secret_string.unwrap(),
                Err(_) => "none".to_owned(),
            };
            let labels = stages[&version].join(" ").replace("AWS", "");
            parts.push(format!("{}={value}({labels})", ids(&version)));
        }
        parts.join(", ")
    }

    async fn check(row: &str, calls: &[(Call, &str)], left: &str) {
        let manager = manager();
        for (number, (call, expected)) in calls.iter().enumerate() {
            let answered = run(&manager, call).await;
            assert_eq!(answered, *expected, "{row}: call {}", number + 1);
        }
        assert_eq!(picture(&manager).await, left, "{row}");
    }

    const EXISTS: &str = "ResourceExistsException";
    const PARAMETER: &str = "InvalidParameterException";
    const REQUEST: &str = "InvalidRequestException";

    #[tokio::test]
    async fn values_are_stored_once() {
        check("first version", &[(Create("v1", "one"), "ok")], "v1=one(CURRENT)").await;
        check(
            "create repeated",
            &[
                (Create("v1", "one"), "ok"),
                (Create("v1", "one"), "ok"),
                (Create("v1", "two"), EXISTS),
                (Create("v2", "one"), EXISTS),
            ],
            "v1=one(CURRENT)",
        )
        .await;
        check(
            "put moves the current and the previous",
            &[
                (Create("v1", "one"), "ok"),
                (Put("v2", "two", &[]), "ok"),
                (Put("v2", "two", &[]), "ok"),
                (Put("v2", "other", &[]), EXISTS),
            ],
            "v1=one(PREVIOUS), v2=two(CURRENT)",
        )
        .await;
        check(
            "the third version pushes the first out",
            &[(Create("v1", "one"), "ok"), (Put("v2", "two", &[]), "ok"), (Put("v3", "three", &[]), "ok")],
            "v2=two(PREVIOUS), v3=three(CURRENT)",
        )
        .await;
        check(
            "a repeat moves no label",
            &[
                (Create("v1", "one"), "ok"),
                (Put("v2", "two", &["KEEP"]), "ok"),
                (Put("v2", "two", &["AWSCURRENT"]), "ok"),
            ],
            "v1=one(CURRENT), v2=two(KEEP)",
        )
        .await;
        check(
            "a deleted version's id is free again",
            &[
                (Create("v1", "one"), "ok"),
                (Put("v2", "two", &["KEEP"]), "ok"),
                (Put("v3", "three", &["KEEP"]), "ok"),
                (Put("v2", "other", &["MORE"]), "ok"),
            ],
            "v1=one(CURRENT), v2=other(MORE), v3=three(KEEP)",
        )
        .await;
    }

    /// The contract of secret stores (`identity::secrets::contract`) runs over this stand-in as well. These rows have the
    /// calls that the contract does not make, because the adapter does not make them or because the stand-in must
    /// refuse them as AWS does.
    #[tokio::test]
    async fn labels_move_only_from_their_holder() {
        let made = || [(Create("v1", "one"), "ok"), (Put("v2", "two", &["KEEP"]), "ok")];
        let start = "v1=one(CURRENT), v2=two(KEEP)";
        let refused: [(&str, Call, &str); 5] = [
            ("no holder named", Move("AWSCURRENT", "", "v2"), PARAMETER),
            ("wrong holder", Move("AWSCURRENT", "v2", "v2"), PARAMETER),
            ("current to nowhere", Move("AWSCURRENT", "v1", ""), PARAMETER),
            ("neither", Move("KEEP", "", ""), PARAMETER),
            ("label without a holder", Move("OTHER", "v1", "v2"), PARAMETER),
        ];
        for (row, call, expected) in refused {
            let [create, put] = made();
            check(row, &[create, put, (call, expected)], start).await;
        }
        let moved: [(&str, Call, &str); 4] = [
            ("stays", Move("AWSCURRENT", "v1", "v1"), start),
            ("stays, unnamed", Move("AWSCURRENT", "", "v1"), start),
            ("custom moves; its version is gone", Move("KEEP", "v2", "v1"), "v1=one(CURRENT KEEP)"),
            ("previous by hand", Move("AWSPREVIOUS", "", "v2"), "v1=one(CURRENT), v2=two(PREVIOUS KEEP)"),
        ];
        for (row, call, left) in moved {
            let [create, put] = made();
            check(row, &[create, put, (call, "ok")], left).await;
        }
        check(
            "back to the previous; the repeat of the move is refused",
            &[
                (Create("v1", "one"), "ok"),
                (Put("v2", "two", &[]), "ok"),
                (Move("AWSCURRENT", "v2", "v1"), "ok"),
                (Move("AWSCURRENT", "v2", "v1"), PARAMETER),
            ],
            "v1=one(CURRENT), v2=two(PREVIOUS)",
        )
        .await;
    }

    #[tokio::test]
    async fn rotations_begin_with_a_placeholder() {
        check(
            "a whole rotation",
            &[
                (Create("v1", "one"), "ok"),
                (Begin("v2"), "ok"),
                (Put("v2", "two", &["AWSPENDING"]), "ok"),
                (Put("v2", "two", &["AWSPENDING"]), "ok"),
                (Put("v2", "other", &["AWSPENDING"]), EXISTS),
                (Move("AWSCURRENT", "v1", "v2"), "ok"),
                (Begin("v3"), "ok"),
            ],
            "v1=one(PREVIOUS), v2=two(CURRENT), v3=none(PENDING)",
        )
        .await;
        check(
            "no second rotation while one is in progress",
            &[
                (Create("v1", "one"), "ok"),
                (Begin("v2"), "ok"),
                (Begin("v3"), REQUEST),
                (Begin("v2"), REQUEST),
                (Put("v2", "two", &["AWSPENDING"]), "ok"),
                (Begin("v3"), REQUEST),
            ],
            "v1=one(CURRENT), v2=two(PENDING)",
        )
        .await;
        check(
            "pending on the current version is an end",
            &[
                (Create("v1", "one"), "ok"),
                (Move("AWSPENDING", "", "v1"), "ok"),
                (Begin("v1"), EXISTS),
                (Begin("v2"), "ok"),
            ],
            "v1=one(CURRENT), v2=none(PENDING)",
        )
        .await;
        check(
            "a stuck rotation is cleared by hand, and the placeholder is gone",
            &[
                (Create("v1", "one"), "ok"),
                (Begin("v2"), "ok"),
                (Move("AWSPENDING", "v2", ""), "ok"),
                (Begin("v2"), "ok"),
            ],
            "v1=one(CURRENT), v2=none(PENDING)",
        )
        .await;
        check(
            "a version by hand abandons the rotation",
            &[
                (Create("v1", "one"), "ok"),
                (Begin("v2"), "ok"),
                (Put("v2", "two", &["AWSPENDING"]), "ok"),
                (Put("v3", "three", &["KEEP"]), "ok"),
                (Move("AWSCURRENT", "v1", "v2"), PARAMETER),
            ],
            "v1=one(CURRENT), v3=three(KEEP)",
        )
        .await;
        check(
            "a placeholder does not become current",
            &[(Create("v1", "one"), "ok"), (Begin("v2"), "ok"), (Move("AWSCURRENT", "v1", "v2"), REQUEST)],
            "v1=one(CURRENT), v2=none(PENDING)",
        )
        .await;
    }

    #[tokio::test]
    async fn an_empty_secret_gets_its_value_by_hand_or_rotation() {
        for by_rotation in [false, true] {
            let manager = manager();
            let created = client(&manager).create_secret().name(NAME).send().await;
            assert_eq!(created.unwrap().version_id, None);
            assert_eq!(picture(&manager).await, "");
            if by_rotation {
                assert_eq!(run(&manager, &Begin("v1")).await, "ok");
                assert_eq!(run(&manager, &Put("v1", "one", &["AWSPENDING"])).await, "ok");
                assert_eq!(run(&manager, &Move("AWSCURRENT", "", "v1")).await, "ok");
                assert_eq!(picture(&manager).await, "v1=one(CURRENT)");
            } else {
                assert_eq!(run(&manager, &Put("v1", "one", &["AWSPENDING"])).await, "ok");
                assert_eq!(picture(&manager).await, "v1=one(CURRENT PENDING)");
            }
        }
    }

    #[tokio::test]
    async fn values_are_read_by_id_by_label_or_by_both() {
        let manager = manager();
        for call in [Create("v1", "one"), Put("v2", "two", &[]), Begin("v3")] {
            assert_eq!(run(&manager, &call).await, "ok");
        }
        const ABSENT: &str = "ResourceNotFoundException";
        // (version, label, value or error)
        let rows = [
            (None, None, "two"),
            (None, Some("AWSCURRENT"), "two"),
            (None, Some("AWSPREVIOUS"), "one"),
            (None, Some("AWSPENDING"), ABSENT),
            (None, Some("OTHER"), ABSENT),
            (Some("v1"), None, "one"),
            (Some("v3"), None, ABSENT),
            (Some("v9"), None, ABSENT),
            (Some("v1"), Some("AWSPREVIOUS"), "one"),
            (Some("v1"), Some("AWSCURRENT"), REQUEST),
            (Some("v3"), Some("AWSPENDING"), ABSENT),
        ];
        for (version, label, expected) in rows {
            let get = client(&manager).get_secret_value().secret_id(NAME);
            let get = get.set_version_id(version.map(id));
            let got = get.set_version_stage(label.map(str::to_owned)).send().await;
            let answered = match got {
                Ok(got) => got.secret_string.unwrap(),
                Err(failure) => failure.code().unwrap().to_owned(),
            };
            assert_eq!(answered, expected, "{version:?} {label:?}");
        }
    }

    #[tokio::test]
    async fn answers_name_the_secret_and_the_dates() {
        let manager = manager();
        let client = client(&manager);
        let create = client.create_secret().name(NAME).description("keys");
        let created = create.secret_string("one").send().await.unwrap();
        let arn = created.arn().unwrap();
        let (stem, suffix) = arn.rsplit_once('-').unwrap();
        let expected = format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{NAME}");
        assert_eq!(stem, expected);
        assert_eq!(suffix.len(), 6);
        assert!(suffix.chars().all(|letter| letter.is_ascii_alphanumeric()));

        let got = client.get_secret_value().secret_id(arn).send().await;
        let got = got.unwrap();
        assert_eq!(got.arn(), Some(arn));
        assert_eq!(got.name(), Some(NAME));
        assert_eq!(got.version_id(), created.version_id());
        assert_eq!(got.version_stages(), ["AWSCURRENT"]);
        assert_eq!(got.created_date().unwrap().secs(), NOON.unix_timestamp());

        let describe = || client.describe_secret().secret_id(arn).send();
        let described = describe().await.unwrap();
        assert_eq!(described.description(), Some("keys"));
        assert_eq!(described.rotation_enabled(), Some(false));
        assert_eq!(described.last_changed_date().unwrap().secs(), NOON.unix_timestamp());
        manager.begin_rotation(arn, &id("v2")).unwrap();
        assert_eq!(describe().await.unwrap().rotation_enabled(), Some(true));

        let put = client.put_secret_value().secret_id(arn);
        let put = put.secret_string("two").version_stages("B");
        let put = put.version_stages("A").send().await.unwrap();
        assert_eq!(put.arn(), Some(arn));
        assert_eq!(put.version_stages(), ["A", "B"]);
    }

    #[tokio::test]
    async fn requests_out_of_bounds_are_refused() {
        let manager = manager();
        let client = client(&manager);
        let put = || client.put_secret_value().secret_id(NAME);
        let absent = put().secret_string("one").send().await;
        assert_eq!(code(absent), "ResourceNotFoundException");
        let absent = manager.begin_rotation(NAME, &id("v1")).unwrap_err();
        assert_eq!(absent.code, "ResourceNotFoundException");
        assert_eq!(run(&manager, &Create("v1", "one")).await, "ok");

        let largest = "x".repeat(65_536);
        // (token, value, labels, answer)
        let rows = [
            (id("v2"), largest.clone(), vec!["KEEP".to_owned()], "ok"),
            (id("v3"), largest + "x", vec!["KEEP".to_owned()], "ValidationException"),
            ("t".repeat(31), "two".to_owned(), vec![], PARAMETER),
            ("t".repeat(65), "two".to_owned(), vec![], PARAMETER),
            (id("v3"), "two".to_owned(), vec!["l".repeat(257)], "ValidationException"),
            (id("v3"), "two".to_owned(), vec![], "ok"),
            (
                id("v4"),
                "three".to_owned(),
                (0..20).map(|label| label.to_string()).collect(),
                "LimitExceededException",
            ),
        ];
        for (token, value, labels, expected) in rows {
            let labels = Some(labels).filter(|labels| !labels.is_empty());
            let put = put().secret_string(value).client_request_token(token);
            let answered = code(put.set_version_stages(labels).send().await);
            assert_eq!(answered, expected);
        }
        for name in ["", "two words", "caf\u{e9}"] {
            let created = client.create_secret().name(name).send().await;
            assert_ne!(code(created), "ok", "{name}");
        }
        let short = manager.begin_rotation(NAME, "short").unwrap_err();
        assert_eq!(short.code, PARAMETER);
    }

    #[tokio::test]
    async fn unsupported_members_and_operations_are_refused_by_name() {
        let client = client(&manager());
        let tagged = client.create_secret().name(NAME).secret_string("one");
        let tagged = tagged.tags(Tag::builder().key("a").value("b").build());
        let refused = tagged.send().await.unwrap_err();
        assert_eq!(refused.code(), Some(PARAMETER));
        assert!(refused.message().unwrap().contains("`Tags`"));
        let binary = client.create_secret().name(NAME);
        let binary = binary.secret_binary(Blob::new("one")).send().await;
        assert_eq!(code(binary), PARAMETER);
        let listed = client.list_secrets().send().await;
        assert_eq!(code(listed), "UnknownOperationException");
    }

    #[test]
    fn malformed_bodies_are_not_quoted() {
        for body in [r#"{"Name":["hidden"]}"#, r#"{"Name":"hidden"#, "\"hidden\"", ""] {
            let refused = parse::<operations::Describe>(body.as_bytes()).err().unwrap();
            assert!(!refused.to_string().contains("hidden"), "{refused}");
        }
        assert_eq!(format!("{:?}", manager()), "EmbeddedSecretsManager");
    }

    #[tokio::test]
    async fn a_change_is_visible_only_after_it_is_saved() {
        let directory = std::env::temp_dir().join(format!("secrets-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("secrets.json");
        let manager = EmbeddedSecretsManager::open(&path, environment()).unwrap();
        assert_eq!(run(&manager, &Create("v1", "one")).await, "ok");
        // A directory where the new content is to be written.
        let blocked = directory.join("secrets.json.new");
        std::fs::create_dir(&blocked).unwrap();
        assert_eq!(run(&manager, &Put("v2", "two", &[])).await, "InternalServiceError");
        assert_eq!(picture(&manager).await, "v1=one(CURRENT)");
        std::fs::remove_dir(&blocked).unwrap();
        assert_eq!(run(&manager, &Put("v2", "two", &[])).await, "ok");
        assert_eq!(run(&manager, &Begin("v3")).await, "ok");
        drop(manager);
        let manager = EmbeddedSecretsManager::open(&path, environment()).unwrap();
        assert_eq!(picture(&manager).await, "v1=one(PREVIOUS), v2=two(CURRENT), v3=none(PENDING)");
    }
}
