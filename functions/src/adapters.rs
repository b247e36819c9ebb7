//! The adapters of one deployment, and the services built over them.

use std::sync::Arc;

use identity::api::functions::Function;
use identity::api::service::Service;
use identity::audit::Audit;
use identity::authn::entra::Entra;
use identity::authorization::authorizer::Authorizer;
use identity::authorization::route_rules::RouteRules;
use identity::keys::cache::KeyCache;
use identity::runtime::Clock;
use identity::settings::Settings;
use identity::token::verify::{Expected, Verifier};

use crate::aws::published_keys::PublishedKeys;
use crate::aws::secrets_manager::SecretsManager;
use crate::aws::table::Table;
use crate::system::System;

/// The names of a deployment's tables and secrets.
#[derive(Clone)]
pub struct StateNames {
    /// The name of the state table.
    pub table: String,
    /// The name of the assignments table. Empty in a function that reads no assignment.
    pub assignments_table: String,
    /// Name or ARN of the secret `access-keys`. Empty in a function that authenticates no caller.
    pub access_keys: String,
    /// Name or ARN of the secret `signing-keys`. Empty in a function that mints no token.
    pub signing_keys: String,
}

/// The adapters over one AWS configuration.
#[derive(Clone)]
pub struct Adapters {
    pub system: Arc<System>,
    /// The time of tokens. [`Self::new`] takes the machine's time for it.
    pub token_clock: Arc<dyn Clock>,
    pub table: Arc<Table>,
    pub secrets: Arc<SecretsManager>,
}

impl Adapters {
    /// The adapters over these clients. The closure makes the client of Secrets Manager for the first secret.
    #[must_use]
    pub fn new(
        dynamodb: aws_sdk_dynamodb::Client,
        secrets_manager: impl FnOnce() -> aws_sdk_secretsmanager::Client + Send + 'static,
        names: StateNames,
        published_keys: PublishedKeys,
    ) -> Self {
        let system = Arc::new(System::new());
        let table = Table::new(dynamodb, names.table, names.assignments_table, system.clone());
        let StateNames { access_keys, signing_keys, .. } = names;
        let secrets =
            SecretsManager::new(Box::new(secrets_manager), access_keys, signing_keys, published_keys);
        let token_clock = system.clone();
        Self { system, token_clock, table: Arc::new(table), secrets: Arc::new(secrets) }
    }

    /// The service of some functions over these adapters.
    #[must_use]
    pub fn service(
        &self,
        settings: Settings,
        entra: Entra,
        functions: &'static [Function],
        audit: Arc<dyn Audit>,
    ) -> Service {
        Service {
            settings,
            store: self.table.clone(),
            feed: self.table.clone(),
            key_cache: Arc::new(KeyCache::new(self.secrets.clone())),
            entra: Arc::new(entra),
            clock: self.system.clone(),
            token_clock: self.token_clock.clone(),
            random: self.system.clone(),
            audit,
            functions,
        }
    }

    /// The verifier of tokens against the table. It reads no secret.
    #[must_use]
    pub fn verifier(&self, expected: Expected) -> Verifier {
        Verifier::new(expected, self.table.clone(), self.token_clock.clone())
    }

    /// The authorizer over these adapters.
    #[must_use]
    pub fn authorizer(&self, expected: Expected, rules: RouteRules, audit: Arc<dyn Audit>) -> Authorizer {
        let (clock, random) = (self.system.clone(), self.system.clone());
        Authorizer { verifier: self.verifier(expected), rules, clock, random, audit }
    }
}
