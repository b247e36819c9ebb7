//! The commands about credentials of resource servers.

use acs_identity::control::{self, Command};
use acs_identity::output::report::Report;
use clap::Subcommand;
use identity::store::resource_servers::ResourceServerId;
use serde_json::{Value, json};

use super::failure::Failure;
use super::verbs::Context;

/// The commands about credentials of resource servers. Such a credential may ask the running server whether a token is
/// active, and which tokens have ended, and nothing else.
#[derive(Subcommand)]
pub(crate) enum ResourceServerAction {
    /// Add a credential, and print its client id and client secret. No other command shows the secret again.
    Add { name: ResourceServerId },
    /// List the credentials.
    List,
    /// Print a new secret, which is valid beside the one in use. A repetition replaces the new one.
    Rotate {
        name: ResourceServerId,
        /// End the roll-over instead: only the newest secret stays valid.
        #[arg(long)]
        finish: bool,
    },
    /// Remove a credential. It is refused at once.
    Remove { name: ResourceServerId },
}

impl Context {
    pub(crate) async fn resource_server(&self, action: ResourceServerAction) -> Result<(), Failure> {
        let event = match action {
            ResourceServerAction::Add { name } => json!({"addResourceServer": name}),
            ResourceServerAction::List => json!({"listResourceServers": true}),
            ResourceServerAction::Rotate { name, finish: false } => json!({"rotateResourceServer": name}),
            ResourceServerAction::Rotate { name, finish: true } => {
                json!({"finishResourceServerRotation": name})
            }
            ResourceServerAction::Remove { name } => json!({"removeResourceServer": name}),
        };
        let answer = control::send(&self.data_dir, &Command::Invoke(event)).await?;
        let report = match answer.get("clientSecret").and_then(Value::as_str) {
            Some(secret) => credential(&answer, secret),
            None => list(&answer),
        };
        let printed = self.print(&report);
        printed
            .map_err(|failure| failure.after_effect("the command has taken effect, but its answer is lost"))
    }
}

fn credential(answer: &Value, secret: &str) -> Report {
    let id = answer.get("clientId").and_then(Value::as_str).unwrap_or_default();
    let json = json!({"client_id": id, "client_secret": secret});
    Report::object(json, &["client_id", "client_secret"])
}

fn list(answer: &Value) -> Report {
    let servers = answer.get("resourceServers").and_then(Value::as_array);
    let row = |server: &Value| {
        let dates = server.get("secretsCreatedAt").and_then(Value::as_array).cloned().unwrap_or_default();
        json!({
            "client_id": server.get("clientId"),
            "secret_since": dates.first(),
            "next_secret_since": dates.get(1),
        })
    };
    let rows = servers.into_iter().flatten().map(row).collect();
    Report::list(rows, &["client_id", "secret_since", "next_secret_since"])
}
