//! The embedded DynamoDB: a real engine in this process, in place of the AWS SDK's HTTP client.
//!
//! This module owns the table file. It translates between the wire protocol (AWS JSON 1.0, with the operation in
//! `x-amz-target`) and the library calls of the engine. It has no code for particular tables, items or keys. The
//! adapters of a deployment use it through the same SDK client.
//!
//! It does not imitate throttling, partial batch answers or eventually consistent reads. Every read is strongly
//! consistent.

use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use dynoxide::{Database, DynoxideError};
use nix::fcntl::OFlag;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::console;
use crate::files::{FileError, FileInPlace};
use crate::sdk_response;

const TARGET_PREFIX: &str = "DynamoDB_20120810.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// The operations that change items.
const WRITES: [&str; 4] = ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"];
/// The first bytes of every SQLite file (<https://www.sqlite.org/fileformat.html>).
const SQLITE_HEADER: &[u8] = b"SQLite format 3\0";
const UNKNOWN_OPERATION: &str = r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#;

/// A DynamoDB in this process. Clones share one database.
///
/// Give it to an SDK configuration as its HTTP client. The region, the endpoint and the credentials of that
/// configuration must be set, as for AWS, but they are ignored.
///
/// # Durability
///
/// A success answer means that the change is on the disk. The engine writes through SQLite with a write-ahead log.
/// It never sets `synchronous`, so the default of its bundled SQLite holds: FULL, which syncs the log within every
/// commit. (Only the engine's bulk loading lowers the level, and this module does not call it.) Each operation that
/// writes is one SQLite transaction, also a DynamoDB transaction. After a crash the disk has all of it or no part.
/// On macOS the sync reaches the drive, but not its platter.
#[derive(Clone)]
pub struct EmbeddedDynamoDb {
    database: Database,
    /// The file, unless the database is in memory.
    file: Option<Arc<DatabaseFile>>,
    writes: Arc<OnceLock<UnboundedSender<Bytes>>>,
}

struct DatabaseFile {
    place: FileInPlace,
    /// Whether the last request failed.
    is_failing: AtomicBool,
}

const LOST: &str = "the file was deleted or replaced under the running server; stop the server, restore the directory, \
                    and start it again";

/// The database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDatabaseError {
    /// The file cannot be created or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// SQLite takes only UTF-8 paths.
    #[error("the path of {} is not UTF-8; choose another state directory", .0.display())]
    Path(PathBuf),
    /// A link could lead to a file that other users can read.
    #[error("{} is a link; put the file itself into the state directory", .0.display())]
    Link(PathBuf),
    /// The file has other content. It is left as it is.
    #[error(
        "{} is not an SQLite database; restore the file, or remove its directory to start with a new resource",
        .0.display()
    )]
    NotADatabase(PathBuf),
    /// The file is damaged, or a newer version of the engine wrote it. It is left as it is.
    #[error(
        "cannot use {}: {source}; restore the file, or remove its directory to start with a new resource",
        path.display()
    )]
    Database { path: PathBuf, source: DynoxideError },
    /// SQLite cannot create a database in memory.
    #[error("cannot create a database in memory")]
    Memory(#[source] DynoxideError),
}

impl EmbeddedDynamoDb {
    /// Opens the database in the file `path`. A missing file is created, readable by its owner only. Its directory
    /// must exist. SQLite keeps two more files beside it, `-wal` and `-shm`, with the same permissions.
    ///
    /// # Errors
    /// [`OpenDatabaseError`] when the file cannot be created or read, or is not a database of this engine.
    pub fn open(path: &Path) -> Result<Self, OpenDatabaseError> {
        let file_error = |source| FileError::new("open", path, source);
        for suffix in ["", "-wal", "-shm"] {
            let part = PathBuf::from([path.as_os_str(), suffix.as_ref()].join(OsStr::new("")));
            if part.is_symlink() {
                return Err(OpenDatabaseError::Link(part));
            }
        }
        let mut options = OpenOptions::new();
        options.custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut header = Vec::new();
        file.and_then(|file| file.take(SQLITE_HEADER.len() as u64).read_to_end(&mut header))
            .map_err(file_error)?;
        // The path becomes absolute, because SQLite gives a relative `:memory:` or `file:...` another meaning.
        let absolute = path.canonicalize().map_err(file_error)?;
        if !header.is_empty() && header != SQLITE_HEADER {
            return Err(OpenDatabaseError::NotADatabase(absolute));
        }
        let text = absolute.to_str().ok_or_else(|| OpenDatabaseError::Path(absolute.clone()))?;
        let database = Database::new(text)
            .map_err(|source| OpenDatabaseError::Database { path: absolute.clone(), source })?;
        let place = FileInPlace::new(&absolute).map_err(file_error)?;
        let file = Arc::new(DatabaseFile { place, is_failing: AtomicBool::default() });
        Ok(Self { database, file: Some(file), writes: Arc::default() })
    }

    /// Creates a database in memory. It ends with its last clone.
    ///
    /// # Errors
    /// [`OpenDatabaseError::Memory`] when SQLite cannot be started.
    pub fn in_memory() -> Result<Self, OpenDatabaseError> {
        let database = Database::memory().map_err(OpenDatabaseError::Memory)?;
        Ok(Self { database, file: None, writes: Arc::default() })
    }

    /// The bodies of all later requests that write. Each body comes after the effect of its request. `None` after the first
    /// call.
    #[must_use]
    pub fn watch(&self) -> Option<UnboundedReceiver<Bytes>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.writes.set(sender).is_ok().then_some(receiver)
    }

    fn report_write(&self, body: &[u8]) {
        if let Some(watcher) = self.writes.get() {
            // The send fails after the watcher has ended.
            let _ = watcher.send(Bytes::copy_from_slice(body));
        }
    }

    /// Deletes the items whose time to live has passed, and returns their number. DynamoDB does this by itself some
    /// days late; here the caller chooses the time. Until then the items are readable, as on AWS. The deletion works
    /// in pages, so other threads' requests run between them, but it blocks its own thread.
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
        self.run(request.as_bytes(), |request| self.database.put_item(request)).map(drop)
    }

    /// Reads every item of a table with a `Scan`, page by page. The items have the form of AWS.
    ///
    /// # Errors
    /// [`DynoxideError`] when the table cannot be read.
    pub fn items(&self, table: &str) -> Result<Vec<Value>, DynoxideError> {
        let (mut start, mut items) = (None, Vec::new());
        loop {
            let request = json!({"TableName": table, "ConsistentRead": true, "ExclusiveStartKey": start});
            let answer = self.run(request.to_string().as_bytes(), |request| self.database.scan(request))?;
            let mut page: Value = serde_json::from_str(&answer)
                .map_err(|error| DynoxideError::InternalServerError(error.to_string()))?;
            if let Some(Value::Array(found)) = page.get_mut("Items") {
                items.append(found);
            }
            match page.get("LastEvaluatedKey") {
                Some(Value::Null) | None => return Ok(items),
                Some(key) => start = Some(key.clone()),
            }
        }
    }

    /// Writes items in one transaction. The request and the answer have the form of AWS.
    ///
    /// # Errors
    /// [`DynoxideError`] when the transaction is refused or the table cannot be written.
    pub fn transact_write(&self, request: &Value) -> Result<(), DynoxideError> {
        let body = request.to_string();
        self.run(body.as_bytes(), |request| self.database.transact_write_items(request))?;
        self.report_write(body.as_bytes());
        Ok(())
    }

    /// Executes a request. An answer needs the file in its place, because a change of a deleted file is lost. A warning
    /// reports the first failure after a success.
    fn run<Q: DeserializeOwned, A: Serialize>(
        &self,
        body: &[u8],
        execute: impl FnOnce(Q) -> Result<A, DynoxideError>,
    ) -> Result<String, DynoxideError> {
        let Some(file) = &self.file else { return run(body, execute) };
        let answer = run(body, execute).and_then(|answer| match file.place.is_intact() {
            true => Ok(answer),
            false => Err(DynoxideError::InternalServerError(LOST.to_owned())),
        });
        let failure = answer.as_ref().err().filter(|error| error.status_code() >= 500);
        let was_failing = file.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        if let Some(error) = failure.filter(|_| !was_failing) {
            console::warn(&format!("{}: {error}; such requests get 503", file.place.path().display()));
        }
        answer
    }

    /// Executes a request and returns the status and the JSON body of its answer.
    fn answer(&self, request: &HttpRequest) -> (u16, String) {
        let operation =
            request.headers().get("x-amz-target").and_then(|target| target.strip_prefix(TARGET_PREFIX));
        // The bytes of a streaming body are absent; no operation here has one.
        let body = request.body().bytes().unwrap_or_default();
        match operation.and_then(|operation| self.execute(operation, body)) {
            None => (400, UNKNOWN_OPERATION.to_owned()),
            Some(Ok(answer)) => {
                if operation.is_some_and(|operation| WRITES.contains(&operation)) {
                    self.report_write(body);
                }
                (200, answer)
            }
            Some(Err(error)) => (error.status_code(), error.to_json()),
        }
    }

    /// Executes an operation on the engine. `None` means that the operation is not supported here.
    fn execute(&self, operation: &str, body: &[u8]) -> Option<Result<String, DynoxideError>> {
        let database = &self.database;
        Some(match operation {
            "CreateTable" => self.run(body, |request| database.create_table(request)),
            "DescribeTable" => self.run(body, |request| database.describe_table(request)),
            "UpdateTimeToLive" => self.run(body, |request| database.update_time_to_live(request)),
            "DescribeTimeToLive" => self.run(body, |request| database.describe_time_to_live(request)),
            "GetItem" => self.run(body, |request| database.get_item(request)),
            "PutItem" => self.run(body, |request| database.put_item(request)),
            "UpdateItem" => self.run(body, |request| database.update_item(request)),
            "DeleteItem" => self.run(body, |request| database.delete_item(request)),
            "BatchGetItem" => self.run(body, |request| database.batch_get_item(request)),
            "TransactWriteItems" => self.run(body, |request| database.transact_write_items(request)),
            "Query" => self.run(body, |request| database.query(request)),
            "Scan" => self.run(body, |request| database.scan(request)),
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

/// The error of DynamoDB for a body that does not decode.
///
/// The engine validates while it decodes. A marker in front of its message separates the two kinds of failure. Only the
/// engine's own HTTP server reads the marker, and this program does not contain that server.
fn refusal(message: &str) -> DynoxideError {
    let text = message.rfind(" at line ").and_then(|end| message.get(..end)).unwrap_or(message);
    match text.split_once(':') {
        Some(("VALIDATION" | "VALIDATION_REQUEST" | "VALIDATION_AS_READ", rest)) => {
            DynoxideError::ValidationException(rest.to_owned())
        }
        Some(("SERIALIZATION" | "SERIALIZATION_AS_READ", rest)) => {
            DynoxideError::SerializationException(rest.to_owned())
        }
        // AWS reports an absent member as a validation error, not as a decoding error.
        _ if text.starts_with("missing field") => DynoxideError::ValidationException(text.to_owned()),
        _ => DynoxideError::SerializationException(text.to_owned()),
    }
}

/// Only the name, so that no content reaches a log.
impl fmt::Debug for EmbeddedDynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedDynamoDb")
    }
}

impl HttpConnector for EmbeddedDynamoDb {
    /// Answers before it returns. A call blocks for a fraction of a millisecond, and a write also for one sync of
    /// the log. The engine has one lock for reads and writes, so a blocking pool would add a hop between threads, and
    /// its threads would only wait for that lock. Inline, no write continues after its caller has timed out.
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.answer(&request);
        sdk_response::ready(status, CONTENT_TYPE, body)
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
    use std::os::unix::fs::symlink;

    use std::collections::HashMap;

    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnValue,
        ScalarAttributeType, TimeToLiveSpecification, TimeToLiveStatus,
    };
    use tempfile::tempdir;

    use super::*;
    use crate::embedded::database_client;

    const TABLE: &str = "identities";

    fn client(database: &EmbeddedDynamoDb) -> Client {
        database_client(database.clone())
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

    /// A client of a new table in memory.
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

    #[tokio::test]
    async fn operations_for_the_aws_cli_are_served() {
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
    async fn expired_items_stay_until_the_sweep() {
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
        // An operation of AWS that the service does not use.
        let error = client.list_tables().send().await.unwrap_err();
        assert_eq!(error.code(), Some("UnknownOperationException"));
    }

    #[test]
    fn malformed_bodies_get_the_errors_of_aws() {
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
        let directory = tempdir().unwrap();
        let path = directory.path().join("table.db");
        {
            let client = client(&EmbeddedDynamoDb::open(&path).unwrap());
            create_table(&client).await;
            put(&client, "a", 5).await;
        }
        let client = client(&EmbeddedDynamoDb::open(&path).unwrap());
        assert_eq!(get(&client, "a").await, Some(record("a", 5)));
    }

    #[tokio::test]
    async fn answered_writes_are_on_disk_before_closing() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("table.db");
        let open = EmbeddedDynamoDb::open(&path).unwrap();
        let writer = client(&open);
        create_table(&writer).await;
        put(&writer, "a", 5).await;
        // A crash at this moment would leave these files.
        let left = tempdir().unwrap();
        for name in ["table.db", "table.db-wal"] {
            std::fs::copy(directory.path().join(name), left.path().join(name)).unwrap();
        }
        let reader = client(&EmbeddedDynamoDb::open(&left.path().join("table.db")).unwrap());
        assert_eq!(get(&reader, "a").await, Some(record("a", 5)));
    }

    #[tokio::test]
    async fn files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempdir().unwrap();
        let database = EmbeddedDynamoDb::open(&directory.path().join("table.db")).unwrap();
        create_table(&client(&database)).await;
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
    }

    #[test]
    fn other_files_are_refused_and_kept() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("table.db");
        std::fs::write(&path, "a letter to a friend, long enough to be read as a header").unwrap();
        let error = EmbeddedDynamoDb::open(&path).unwrap_err();
        assert!(matches!(error, OpenDatabaseError::NotADatabase(_)), "{error:?}");
        assert!(error.to_string().contains("table.db"), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("a letter"));
        std::fs::write(&path, [SQLITE_HEADER, &[0xff; 4096]].concat()).unwrap();
        let error = EmbeddedDynamoDb::open(&path).unwrap_err();
        assert!(matches!(error, OpenDatabaseError::Database { .. }), "{error:?}");
        assert!(error.to_string().contains("table.db"), "{error}");
        let absent = path.with_file_name("absent").join("table.db");
        let error = EmbeddedDynamoDb::open(&absent).unwrap_err();
        assert!(matches!(error, OpenDatabaseError::File { .. }), "{error:?}");
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempdir().unwrap();
        let (path, target) = (dir.path().join("dynamodb.sqlite"), dir.path().join("target"));
        for part in ["dynamodb.sqlite", "dynamodb.sqlite-wal", "dynamodb.sqlite-shm"] {
            let link = dir.path().join(part);
            symlink(&target, &link).unwrap();
            let refused = EmbeddedDynamoDb::open(&path).unwrap_err();
            assert!(matches!(&refused, OpenDatabaseError::Link(path) if *path == link), "{refused}");
            std::fs::remove_file(&link).unwrap();
        }
        assert!(!target.exists());
    }

    #[tokio::test]
    async fn changes_of_a_deleted_file_are_not_acknowledged() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("dynamodb.sqlite");
        let database = EmbeddedDynamoDb::open(&path).unwrap();
        let client = client(&database);
        create_table(&client).await;
        put(&client, "a", 1).await;
        let kept = dir.path().join("kept");
        std::fs::rename(&path, &kept).unwrap();
        database.check_writes(TABLE).unwrap_err();
        assert!(client.put_item().table_name(TABLE).set_item(Some(record("b", 1))).send().await.is_err());
        std::fs::copy(&kept, &path).unwrap();
        database.check_writes(TABLE).expect_err("another file is there");
        std::fs::rename(&kept, &path).unwrap();
        put(&client, "b", 1).await;
    }
}
