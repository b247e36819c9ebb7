//! The floor of an operation that reads the store: one strongly consistent `BatchGetItem` of two keys, through the SDK
//! client of production, over the embedded DynamoDB in this process.

use std::collections::HashMap;
use std::path::Path;

use acs_identity::dynamodb::EmbeddedDynamoDb;
use acs_identity::embedded::database_client;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};

/// The name of the local server's table.
pub const TABLE: &str = "communication-identity";
pub const ASSIGNMENTS_TABLE: &str = "communication-identity-assignments";

/// The call, ready to be sent.
pub struct StoreCall {
    client: Client,
    keys: [String; 2],
}

impl StoreCall {
    /// A call over the state directory of a local server that has ended.
    ///
    /// # Panics
    /// When the directory holds no database.
    #[must_use]
    pub fn over(state: &Path, identity: &str) -> Self {
        let database = EmbeddedDynamoDb::open(&state.join("dynamodb.sqlite")).unwrap();
        let keys = ["pointer#0".to_owned(), format!("identity#{identity}")];
        Self { client: database_client(database), keys }
    }

    /// Sends the call.
    ///
    /// # Panics
    /// When an item is missing.
    pub async fn call(&self) {
        let key = |key: &String| HashMap::from([("pk".to_owned(), AttributeValue::S(key.clone()))]);
        let keys = KeysAndAttributes::builder().set_keys(Some(self.keys.iter().map(key).collect()));
        let keys = keys.consistent_read(true).build().unwrap();
        let answer = self.client.batch_get_item().request_items(TABLE, keys).send().await.unwrap();
        assert_eq!(answer.responses.unwrap_or_default()[TABLE].len(), 2);
    }
}
