//! The production adapters over the embedded services, with the tables and the secrets that a deployment's template
//! creates.

use std::error::Error;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use functions::adapters::{Adapters, StateNames};
use functions::aws::published_keys::PublishedKeys;
use functions::aws::{self, SdkConfig, sdk_config};
use identity::secrets::SecretName;

use identity::error_chain::error_chain;

pub(crate) const TABLE: &str = "communication-identity";
pub(crate) const ASSIGNMENTS_TABLE: &str = "communication-identity-assignments";

/// The region in the clients' configuration and in ARNs. The embedded services ignore the region of a request.
pub(crate) const REGION: &str = "us-east-1";

/// A table or a secret cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create {what}: {cause}")]
pub struct PrepareError {
    what: &'static str,
    cause: String,
}

/// The production adapters, whose clients send their requests to the embedded services.
///
/// # Errors
/// [`PrepareError`] when a table or a secret cannot be created.
pub async fn adapters(
    database: impl HttpClient + 'static,
    secrets: impl HttpClient + 'static,
) -> Result<Adapters, PrepareError> {
    let database = prepare_tables(database).await?;
    let credentials = SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "local"));
    let secrets = aws::secrets_manager(&config(secrets, Some(credentials)));
    prepare_secrets(&secrets).await?;
    let name = |secret: SecretName| secret.as_str().to_owned();
    let names = StateNames {
        table: TABLE.to_owned(),
        assignments_table: ASSIGNMENTS_TABLE.to_owned(),
        access_keys: name(SecretName::AccessKeys),
        signing_keys: name(SecretName::SigningKeys),
    };
    Ok(Adapters::new(database, || secrets, names, PublishedKeys::Accepted))
}

/// A client of the embedded database. Its calls have no signature, because they do not leave this process and the database
/// checks none. A signature takes 10 µs (decision record 0007).
pub fn database_client(database: impl HttpClient + 'static) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::config::Builder::from(&config(database, None));
    aws::dynamodb(config.allow_no_auth())
}

/// The configuration of a client whose requests go to an embedded service.
fn config(service: impl HttpClient + 'static, credentials: Option<SharedCredentialsProvider>) -> SdkConfig {
    sdk_config(SharedHttpClient::new(service), REGION.to_owned(), credentials, None)
}

/// Creates the tables of a deployment's template, if they do not exist.
pub(crate) async fn prepare_tables(
    database: impl HttpClient + 'static,
) -> Result<aws_sdk_dynamodb::Client, PrepareError> {
    let client = database_client(database);
    for (table, keys) in [(TABLE, &["pk"][..]), (ASSIGNMENTS_TABLE, &["pk", "sk"])] {
        let prepared = prepare_table(&client, table, keys).await;
        prepared.map_err(|error| PrepareError { what: "the tables", cause: error_chain(error.as_ref()) })?;
    }
    Ok(client)
}

/// Creates a table of a deployment's template, if it does not exist. The first key is the partition key, and the
/// second one the sort key.
async fn prepare_table(
    client: &aws_sdk_dynamodb::Client,
    table: &str,
    keys: &[&str],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if client.describe_table().table_name(table).send().await.is_ok() {
        return Ok(());
    }
    let mut create = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    for (name, key_type) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
        let attribute =
            AttributeDefinition::builder().attribute_name(*name).attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name(*name).key_type(key_type);
        create = create.attribute_definitions(attribute.build()?).key_schema(key.build()?);
    }
    create.send().await?;
    let ttl = TimeToLiveSpecification::builder().attribute_name("expires_at").enabled(true);
    client.update_time_to_live().table_name(table).time_to_live_specification(ttl.build()?).send().await?;
    Ok(())
}

/// Creates the two secrets of a deployment's template, without values.
async fn prepare_secrets(client: &aws_sdk_secretsmanager::Client) -> Result<(), PrepareError> {
    for secret in [SecretName::AccessKeys, SecretName::SigningKeys] {
        match client.create_secret().name(secret.as_str()).send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceExistsException") => {}
            Err(error) => {
                return Err(PrepareError { what: "the secrets", cause: error_chain(&error) });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

    use super::*;
    use crate::sdk_response;

    /// Answers with an empty document, and keeps the value of `Authorization`.
    #[derive(Clone, Debug, Default)]
    struct Captured(Arc<Mutex<Vec<Option<String>>>>);

    impl HttpConnector for Captured {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let signature = request.headers().get("authorization").map(str::to_owned);
            self.0.lock().unwrap().push(signature);
            sdk_response::ready(200, "application/x-amz-json-1.0", "{}".into())
        }
    }

    impl HttpClient for Captured {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    #[tokio::test]
    async fn only_calls_to_the_embedded_database_have_no_signature() {
        let captured = Captured::default();
        let credentials =
            SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test"));
        let signing = config(captured.clone(), Some(credentials));
        for client in [database_client(captured.clone()), aws::dynamodb(&signing)] {
            client.list_tables().send().await.unwrap();
        }
        aws::secrets_manager(&signing).list_secrets().send().await.unwrap();
        let signatures = captured.0.lock().unwrap();
        let is_signed = |signature: &Option<String>| {
            signature.as_ref().is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=key/"))
        };
        assert_eq!(signatures.iter().map(is_signed).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(signatures[0], None);
    }

    #[tokio::test]
    async fn clients_without_credentials_send_nothing() {
        let captured = Captured::default();
        let client = aws::dynamodb(&config(captured.clone(), None));
        assert!(client.list_tables().send().await.is_err());
        assert!(captured.0.lock().unwrap().is_empty());
    }
}
