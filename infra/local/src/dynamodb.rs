//! The embedded DynamoDB: a real engine in this process, behind the AWS SDK's own HTTP seam.
//!
//! Owns the table file and the translation between the wire protocol (AWS JSON 1.0, operation named
//! by `x-amz-target`) and the engine's library calls. Knows nothing of tables, items or keys: the
//! adapters that speak to it are the ones that speak to AWS, over the same SDK client.
//!
//! What it does not imitate: throttling, partial batch answers, eventually consistent reads. Every
//! read here is strongly consistent.

use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::reply;

const TARGET_PREFIX: &str = "DynamoDB_20120810.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
const UNKNOWN_OPERATION: &str = r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#;

/// A DynamoDB in this process. Clones share one database.
///
/// Give it to an SDK configuration as its HTTP client. The region, the endpoint and the credentials
/// of that configuration must be set, as for AWS, and are not looked at.
///
/// # Durability
///
/// A success answer means the change is on the disk. The engine writes through SQLite with a
/// write-ahead log and never sets `synchronous`, so the default of its bundled SQLite holds: FULL,
/// which syncs the log within every commit. (Only the engine's bulk loading lowers it; nothing here
/// calls that.) Each operation that writes, a transaction included, is one SQLite transaction:
/// after a crash all of it is there or none. On macOS the sync reaches the drive, not its platter.
#[derive(Clone)]
pub struct EmbeddedDynamoDb {
    database: Database,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be created or found.
    #[error("cannot open the table file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// SQLite takes paths as UTF-8 only.
    #[error("the path of the table file {} is not UTF-8", .0.display())]
    Path(PathBuf),
    /// The file is there but is no database of this engine, or one of a newer version.
    #[error("cannot use the table file {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        source: DynoxideError,
    },
    /// The database in memory could not be made.
    #[error("cannot make a database in memory")]
    Memory(#[source] DynoxideError),
}

impl EmbeddedDynamoDb {
    /// Opens the database in the file `path`, making it (readable by its owner alone) when it is
    /// not there. Its directory must exist. SQLite keeps two more files beside it, `-wal` and
    /// `-shm`, with the same permissions.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be made or read, or is not a database of this engine.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file_error = |source| OpenError::File { path: path.to_path_buf(), source };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map_err(file_error)?;
        // Absolute, because SQLite would read a relative `:memory:` or `file:..` in its own way.
        let absolute = path.canonicalize().map_err(file_error)?;
        let text = absolute.to_str().ok_or_else(|| OpenError::Path(absolute.clone()))?;
        let database =
            Database::new(text).map_err(|source| OpenError::Database { path: absolute.clone(), source })?;
        Ok(Self { database })
    }

    /// A database that lives as long as its last clone.
    ///
    /// # Errors
    /// [`OpenError::Memory`] when SQLite cannot be started.
    pub fn in_memory() -> Result<Self, OpenError> {
        let database = Database::memory().map_err(OpenError::Memory)?;
        Ok(Self { database })
    }

    /// Deletes the items whose time to live has passed and says how many. DynamoDB does this by
    /// itself, some days late; here the caller chooses when. Until then such items are readable,
    /// as on AWS. Works in pages between which waiting requests run, but blocks its own thread.
    ///
    /// # Errors
    /// [`DynoxideError`] when the database cannot be read or written.
    pub fn sweep_expired(&self) -> Result<usize, DynoxideError> {
        self.database.sweep_ttl()
    }

    /// Writes one item, to find out whether the table takes writes. The item is past its time to live, so the next sweep
    /// deletes it.
    ///
    /// # Errors
    /// [`DynoxideError`] when the table does not exist or cannot be written.
    pub fn check_writes(&self, table: &str) -> Result<(), DynoxideError> {
        let item = json!({"pk": {"S": "health#"}, "expires_at": {"N": "1"}});
        let request = json!({"TableName": table, "Item": item}).to_string();
        run(request.as_bytes(), |request| self.database.put_item(request)).map(drop)
    }

    /// Runs one request to its answer: the status and the JSON body.
    fn answer(&self, request: &HttpRequest) -> (u16, String) {
        let operation =
            request.headers().get("x-amz-target").and_then(|target| target.strip_prefix(TARGET_PREFIX));
        // The bytes of a streaming body are absent; no operation here has one.
        let body = request.body().bytes().unwrap_or_default();
        match operation.and_then(|operation| self.execute(operation, body)) {
            None => (400, UNKNOWN_OPERATION.to_owned()),
            Some(Ok(answer)) => (200, answer),
            Some(Err(error)) => (error.status_code(), error.to_json()),
        }
    }

    /// Hands `body` to the engine; `None` for an operation the service has no use for.
    fn execute(&self, operation: &str, body: &[u8]) -> Option<Result<String, DynoxideError>> {
        let database = &self.database;
        Some(match operation {
            "CreateTable" => run(body, |request| database.create_table(request)),
            "DescribeTable" => run(body, |request| database.describe_table(request)),
            "UpdateTimeToLive" => run(body, |request| database.update_time_to_live(request)),
            "DescribeTimeToLive" => run(body, |request| database.describe_time_to_live(request)),
            "GetItem" => run(body, |request| database.get_item(request)),
            "PutItem" => run(body, |request| database.put_item(request)),
            "UpdateItem" => run(body, |request| database.update_item(request)),
            "DeleteItem" => run(body, |request| database.delete_item(request)),
            "BatchGetItem" => run(body, |request| database.batch_get_item(request)),
            "TransactWriteItems" => run(body, |request| database.transact_write_items(request)),
            "Query" => run(body, |request| database.query(request)),
            "Scan" => run(body, |request| database.scan(request)),
            _ => return None,
        })
    }
}

/// Decodes a request, executes it and encodes the answer.
fn run<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    execute: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request = serde_json::from_slice(body).map_err(|error| refusal(&error.to_string()))?;
    let answer = execute(request)?;
    serde_json::to_string(&answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The error DynamoDB gives for a body that does not decode.
///
/// The engine validates while it decodes and tells the two kinds of failure apart by a marker in
/// front of the message; only its own HTTP server, which is not built in, reads the marker.
fn refusal(message: &str) -> DynoxideError {
    let text = message.rfind(" at line ").and_then(|end| message.get(..end)).unwrap_or(message);
    let marked = text.split_once(':').and_then(|(marker, rest)| match marker {
        "VALIDATION" | "VALIDATION_REQUEST" | "VALIDATION_AS_READ" => {
            Some(DynoxideError::ValidationException(rest.to_owned()))
        }
        "SERIALIZATION" | "SERIALIZATION_AS_READ" => {
            Some(DynoxideError::SerializationException(rest.to_owned()))
        }
        _ => None,
    });
    // AWS finds an absent member when it validates, not when it decodes.
    marked.unwrap_or_else(|| {
        if text.starts_with("missing field") {
            DynoxideError::ValidationException(text.to_owned())
        } else {
            DynoxideError::SerializationException(text.to_owned())
        }
    })
}

/// Contents stay out of logs: the name alone.
impl fmt::Debug for EmbeddedDynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedDynamoDb")
    }
}

impl HttpConnector for EmbeddedDynamoDb {
    /// Answers before it returns. A call blocks for a fraction of a millisecond, a write for one
    /// sync of the log more. The engine has one lock for reads and writes, so a blocking pool would
    /// only queue its threads on that lock, at the price of a hop per request. And inline, no write
    /// is left running behind a caller that timed out or went away.
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.answer(&request);
        reply::ready(status, CONTENT_TYPE, body)
    }
}

impl HttpClient for EmbeddedDynamoDb {
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
    use std::collections::HashMap;

    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
    use aws_sdk_dynamodb::operation::put_item::PutItemError;
    use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, KeysAndAttributes, Put,
        ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TimeToLiveSpecification,
        TimeToLiveStatus, TransactWriteItem,
    };

    use super::*;

    const TABLE: &str = "identities";

    fn client(database: &EmbeddedDynamoDb) -> Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "test"))
            .http_client(database.clone())
            .build();
        Client::from_conf(config)
    }

    async fn create_table(client: &Client) {
        client
            .create_table()
            .table_name(TABLE)
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name("pk")
                    .attribute_type(ScalarAttributeType::S)
                    .build()
                    .unwrap(),
            )
            .key_schema(
                KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap(),
            )
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .unwrap();
    }

    /// A table in memory and a client of it.
    async fn table() -> Client {
        let client = client(&EmbeddedDynamoDb::in_memory().unwrap());
        create_table(&client).await;
        client
    }

    fn text(value: &str) -> AttributeValue {
        AttributeValue::S(value.to_owned())
    }

    fn number(value: u64) -> AttributeValue {
        AttributeValue::N(value.to_string())
    }

    fn record(pk: &str, revision: u64) -> HashMap<String, AttributeValue> {
        HashMap::from([("pk".to_owned(), text(pk)), ("revision".to_owned(), number(revision))])
    }

    async fn put(client: &Client, pk: &str, revision: u64) {
        client.put_item().table_name(TABLE).set_item(Some(record(pk, revision))).send().await.unwrap();
    }

    async fn get(client: &Client, pk: &str) -> Option<HashMap<String, AttributeValue>> {
        client
            .get_item()
            .table_name(TABLE)
            .key("pk", text(pk))
            .consistent_read(true)
            .send()
            .await
            .unwrap()
            .item
    }

    /// An empty directory of this test's own.
    fn scratch(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dynamodb-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[tokio::test]
    async fn a_failed_condition_is_the_typed_error_with_the_old_item() {
        let client = table().await;
        put(&client, "a", 1).await;
        let error = client
            .put_item()
            .table_name(TABLE)
            .set_item(Some(record("a", 2)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await
            .unwrap_err();
        let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error() else {
            panic!("{error:?}");
        };
        assert_eq!(failed.item(), Some(&record("a", 1)));
        assert_eq!(get(&client, "a").await, Some(record("a", 1)));
    }

    #[tokio::test]
    async fn a_conditional_update_happens_once() {
        let client = table().await;
        put(&client, "a", 1).await;
        let update = || {
            client
                .update_item()
                .table_name(TABLE)
                .key("pk", text("a"))
                .update_expression("SET revision = :next")
                .condition_expression("revision = :read")
                .expression_attribute_values(":read", number(1))
                .expression_attribute_values(":next", number(2))
                .return_values(ReturnValue::AllNew)
                .send()
        };
        let updated = update().await.unwrap();
        assert_eq!(updated.attributes(), Some(&record("a", 2)));
        let error = update().await.unwrap_err().into_service_error();
        assert!(error.is_conditional_check_failed_exception(), "{error:?}");
    }

    #[tokio::test]
    async fn a_batch_returns_what_is_there() {
        let client = table().await;
        put(&client, "a", 1).await;
        put(&client, "b", 2).await;
        let keys = ["a", "b", "absent"].map(|pk| HashMap::from([("pk".to_owned(), text(pk))]));
        let answer = client
            .batch_get_item()
            .request_items(
                TABLE,
                KeysAndAttributes::builder()
                    .set_keys(Some(keys.to_vec()))
                    .consistent_read(true)
                    .build()
                    .unwrap(),
            )
            .send()
            .await
            .unwrap();
        assert!(answer.unprocessed_keys().unwrap().is_empty());
        let mut found = answer.responses().unwrap()[TABLE].clone();
        found.sort_by_key(|item| format!("{:?}", item["pk"]));
        assert_eq!(found, vec![record("a", 1), record("b", 2)]);
    }

    #[tokio::test]
    async fn a_transaction_is_all_or_nothing() {
        let client = table().await;
        put(&client, "taken", 1).await;
        let write = |pk: &str, condition: &str| {
            let put = Put::builder()
                .table_name(TABLE)
                .set_item(Some(record(pk, 7)))
                .condition_expression(condition)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .build()
                .unwrap();
            TransactWriteItem::builder().put(put).build()
        };
        let error = client
            .transact_write_items()
            .transact_items(write("free", "attribute_not_exists(pk)"))
            .transact_items(write("taken", "attribute_not_exists(pk)"))
            .send()
            .await
            .unwrap_err();
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error()
        else {
            panic!("{error:?}");
        };
        let reasons = cancelled.cancellation_reasons();
        assert_eq!(reasons[0].code(), Some("None"));
        assert_eq!(reasons[1].code(), Some("ConditionalCheckFailed"));
        assert_eq!(reasons[1].item(), Some(&record("taken", 1)));
        assert_eq!(get(&client, "free").await, None);

        client
            .transact_write_items()
            .transact_items(write("free", "attribute_not_exists(pk)"))
            .transact_items(write("taken", "attribute_exists(pk)"))
            .send()
            .await
            .unwrap();
        assert_eq!(get(&client, "free").await, Some(record("free", 7)));
        assert_eq!(get(&client, "taken").await, Some(record("taken", 7)));
    }

    #[tokio::test]
    async fn the_other_operations_answer() {
        let client = table().await;
        put(&client, "a", 1).await;
        let described = client.describe_table().table_name(TABLE).send().await;
        assert_eq!(described.unwrap().table().unwrap().item_count(), Some(1));
        let scanned = client.scan().table_name(TABLE).send().await.unwrap();
        assert_eq!(scanned.count(), 1);
        let query = client
            .query()
            .table_name(TABLE)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text("a"));
        assert_eq!(query.send().await.unwrap().count(), 1);
        let delete =
            client.delete_item().table_name(TABLE).key("pk", text("a")).return_values(ReturnValue::AllOld);
        let deleted = delete.send().await.unwrap();
        assert_eq!(deleted.attributes(), Some(&record("a", 1)));
        assert_eq!(get(&client, "a").await, None);
    }

    #[tokio::test]
    async fn expired_items_stay_until_they_are_swept() {
        let database = EmbeddedDynamoDb::in_memory().unwrap();
        let client = client(&database);
        create_table(&client).await;
        client
            .update_time_to_live()
            .table_name(TABLE)
            .time_to_live_specification(
                TimeToLiveSpecification::builder().attribute_name("revision").enabled(true).build().unwrap(),
            )
            .send()
            .await
            .unwrap();
        let described = client.describe_time_to_live().table_name(TABLE).send();
        let described = described.await.unwrap();
        assert_eq!(
            described.time_to_live_description().unwrap().time_to_live_status(),
            Some(&TimeToLiveStatus::Enabled)
        );
        put(&client, "past", 1_600_000_000).await;
        put(&client, "future", 32_000_000_000).await;
        assert!(get(&client, "past").await.is_some());
        assert_eq!(database.sweep_expired().unwrap(), 1);
        assert!(get(&client, "past").await.is_none());
        assert!(get(&client, "future").await.is_some());
    }

    #[tokio::test]
    async fn errors_carry_the_codes_of_aws() {
        let client = table().await;
        let get = |table: &str, key: AttributeValue| {
            let request = client.get_item().table_name(table).key("pk", key).send();
            async {
                let error = request.await.unwrap_err();
                assert!(matches!(error, SdkError::ServiceError(_)), "{error:?}");
                error.code().map(str::to_owned)
            }
        };
        // (what is wrong, table, key, code)
        let rows = [
            ("no table", "absent", text("a"), "ResourceNotFoundException"),
            ("short name", "x", text("a"), "ValidationException"),
            ("empty key", TABLE, text(""), "ValidationException"),
            ("key type", TABLE, number(1), "ValidationException"),
        ];
        for (row, table, key, code) in rows {
            assert_eq!(get(table, key).await.as_deref(), Some(code), "{row}");
        }
        // An operation AWS has and the service has no use for.
        let error = client.list_tables().send().await.unwrap_err();
        assert_eq!(error.code(), Some("UnknownOperationException"));
    }

    #[test]
    fn a_body_that_does_not_decode_is_refused_in_the_words_of_aws() {
        // (message of the decoder, code, message of the answer)
        let rows = [
            (
                "VALIDATION:TableName is short at line 1 column 16",
                "ValidationException",
                "TableName is short",
            ),
            ("VALIDATION_REQUEST:empty: set", "ValidationException", "empty: set"),
            ("SERIALIZATION:odd value at line 1 column 2", "SerializationException", "odd value"),
            ("missing field `Key` at line 1 column 2", "ValidationException", "missing field `Key`"),
            (
                "invalid type: map, expected a string at line 1 column 9",
                "SerializationException",
                "invalid type: map, expected a string",
            ),
        ];
        for (message, code, said) in rows {
            let error = refusal(message);
            assert!(error.error_type().ends_with(code), "{message}");
            assert_eq!(error.to_string(), said, "{message}");
        }
        assert!(run(b"not json", |(): ()| Ok(())).is_err());
    }

    #[tokio::test]
    async fn a_reopened_file_holds_the_data() {
        let path = scratch("reopened").join("table.db");
        {
            let client = client(&EmbeddedDynamoDb::open(&path).unwrap());
            create_table(&client).await;
            put(&client, "a", 5).await;
        }
        let client = client(&EmbeddedDynamoDb::open(&path).unwrap());
        assert_eq!(get(&client, "a").await, Some(record("a", 5)));
    }

    #[tokio::test]
    async fn an_answered_write_is_in_the_files_while_the_database_is_open() {
        let directory = scratch("open");
        let path = directory.join("table.db");
        let open = EmbeddedDynamoDb::open(&path).unwrap();
        let writer = client(&open);
        create_table(&writer).await;
        put(&writer, "a", 5).await;
        // What a crash at this moment leaves behind.
        let left = scratch("left");
        for name in ["table.db", "table.db-wal"] {
            std::fs::copy(directory.join(name), left.join(name)).unwrap();
        }
        let reader = client(&EmbeddedDynamoDb::open(&left.join("table.db")).unwrap());
        assert_eq!(get(&reader, "a").await, Some(record("a", 5)));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_files_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = scratch("mode");
        let database = EmbeddedDynamoDb::open(&directory.join("table.db")).unwrap();
        create_table(&client(&database)).await;
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_kept() {
        let path = scratch("other").join("table.db");
        std::fs::write(&path, "a letter to a friend, long enough to be read as a header").unwrap();
        let error = EmbeddedDynamoDb::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
        assert!(error.to_string().contains("table.db"), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("a letter"));
        let absent = path.with_file_name("absent").join("table.db");
        let error = EmbeddedDynamoDb::open(&absent).unwrap_err();
        assert!(matches!(error, OpenError::File { .. }), "{error:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn parallel_increments_all_count() {
        let client = table().await;
        put(&client, "a", 0).await;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    for _ in 0..25 {
                        client
                            .update_item()
                            .table_name(TABLE)
                            .key("pk", text("a"))
                            .update_expression("ADD revision :one")
                            .expression_attribute_values(":one", number(1))
                            .send()
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(get(&client, "a").await, Some(record("a", 200)));
    }
}
