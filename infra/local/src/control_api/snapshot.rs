//! The records as one document, for tests that return to a known state.
//!
//! A snapshot has no keys. A restored record could make revoked tokens active again, so a load first replaces the signing
//! keys (docs/promises.md): no token of the time before is active at any moment after it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::call_error::CallError;
use super::records::{self, Leave, Records};
use crate::dynamodb::EmbeddedDynamoDb;
use crate::embedded;
use crate::listing;
use crate::platform::Platform;
use crate::replacement::replace_keys;

const FORMAT: u64 = 1;

/// The body of `PUT state`: a snapshot, as `GET state` answers it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    pub(super) confirm: Option<String>,
    format: u64,
    resource_id: String,
    records: Vec<Value>,
    assignments: Vec<Value>,
}

pub(super) async fn read(platform: &Platform) -> Result<Value, CallError> {
    let _alone = platform.controlled.gate.write().await;
    let Records { state, assignments } = Records::read(&platform.database)?;
    Ok(json!({
        "format": FORMAT,
        "resourceId": platform.resource.resource.id.to_string(),
        "records": state,
        "assignments": assignments,
    }))
}

pub(super) async fn load(platform: &Platform, snapshot: Snapshot) -> Result<(), CallError> {
    let Snapshot { format, resource_id, records: state, assignments, .. } = snapshot;
    if format != FORMAT {
        return Err(CallError::Conflict(format!("format: this server has the format {FORMAT}")));
    }
    let resource = platform.resource.resource.id.to_string();
    if resource_id != resource {
        return Err(CallError::Conflict(format!("resourceId: the resource of this server is {resource}")));
    }
    let records = Records { state, assignments };
    check(&records).await.map_err(CallError::Malformed)?;
    let _alone = platform.controlled.gate.write().await;
    replace_keys(platform, [json!({"rotate": "signing-keys"})]).await?;
    records::remove(&platform.database, Leave::Nothing)?;
    Ok(records.write(&platform.database)?)
}

/// Loads the records into a database of their own, so that records which the server cannot use change nothing.
async fn check(records: &Records) -> Result<(), String> {
    records.check_forms()?;
    let refused = |cause: String| format!("records, assignments: the table refuses them: {cause}");
    let trial = EmbeddedDynamoDb::in_memory().map_err(|error| refused(error.to_string()))?;
    embedded::prepare_tables(trial.clone()).await.map_err(|error| refused(error.to_string()))?;
    records.write(&trial).map_err(|error| refused(error.to_string()))?;
    listing::identities(&trial).map(drop).map_err(|error| format!("records: {error}"))
}
