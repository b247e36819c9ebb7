//! The cost of an exchange of an Entra token beside few and many assignments.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use benches::store_call::ASSIGNMENTS_TABLE;
use dynoxide::{AttributeValue, Database, ImportOptions, Item};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use identity::keys::Algorithm;
use identity::runtime::Random as _;
use identity::store::assignments::{Assignment, AssignmentKind, PrincipalType};
use identity::testing::SeededRandom;
use serde::Deserialize;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::generator::{Work, ask_all};
use crate::programs::{Server, request, scratch, variables};
use crate::report::{Table, at_most, figure};
use crate::scenario::Rounds;

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const ROUNDS: usize = 5;
const CELL: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 8;
const TOKEN: &str = "/adfs/oauth2/v2.0/token";
const SCOPE: &str = "https://communication.azure.com/clients/.default";
const EXCHANGE: &str = "/access/entra/:exchangeAccessToken?api-version=2025-03-02-preview";

/// The user of a token.
#[derive(Deserialize)]
struct User {
    oid: Uuid,
    tid: Uuid,
}

/// Exchanges at servers with each number of assignments.
pub fn table(runtime: &Runtime) -> Table {
    let sites = SIZES.map(|size| runtime.block_on(site(size)));
    let mut of_sizes = SIZES.map(|_| Rounds::default());
    for _ in 0..ROUNDS {
        for ((server, token), rounds) in sites.iter().zip(&mut of_sizes) {
            rounds.push(runtime.block_on(server.measure(|| exchange(token), CONNECTIONS, CELL)));
        }
    }
    let mut table = Table::new(&["request", "assignments", "CPU µs", "p50 ms", "÷ with 10", "target"]);
    for (size, rounds) in SIZES.into_iter().zip(&of_sizes) {
        let ratio = rounds.ratio(|round| of_sizes[0].cpu_of(round));
        table.row([
            "exchange of an Entra token, ES256".to_owned(),
            size.to_string(),
            figure(rounds.median(|figures| figures.cpu)),
            figure(rounds.median(|figures| figures.p50)),
            figure(ratio),
            if size == SIZES[0] { String::new() } else { at_most(ratio, 1.15) },
        ]);
    }
    table
}

fn exchange(token: &str) -> Work {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    Work { requests: vec![request(EXCHANGE, headers, "{}")], status: StatusCode::OK }
}

/// A server with this number of assignments, and an Entra token of a user who is assigned.
async fn site(size: usize) -> (Server, String) {
    let state = scratch(&format!("assignments-{size}"));
    let start = || Server::local(&state, Algorithm::Es256);
    // The first token tells the ids of the user. The server ends, because only one process opens the database.
    let token = entra_token(&start(), &state).await;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    seed(&state, &serde_json::from_slice(&claims).unwrap(), size);
    let server = start();
    let token = entra_token(&server, &state).await;
    ask_all(server.address, exchange(&token).requests, StatusCode::OK).await;
    (server, token)
}

async fn entra_token(server: &Server, state: &Path) -> String {
    let values = variables(state);
    let form = [
        ("grant_type", "password"),
        ("client_id", &values["COMMUNICATION_M365_APP_ID"]),
        ("username", &values["COMMUNICATION_MSAL_USERNAME"]),
        ("password", &values["COMMUNICATION_MSAL_PASSWORD"]),
        ("scope", SCOPE),
    ];
    let form = form.map(|(name, value)| format!("{name}={value}")).join("&");
    let mut request = request(TOKEN, HeaderMap::new(), &form);
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form_type);
    let answer = ask_all(server.address, vec![request], StatusCode::OK).await.remove(0);
    let answer: HashMap<String, serde_json::Value> = serde_json::from_slice(&answer).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Writes the assignments in the form of the adapter: the one of the user, and those of others.
fn seed(state: &Path, user: &User, size: usize) {
    let database = Database::new(state.join("dynamodb.sqlite").to_str().unwrap()).unwrap();
    let random = SeededRandom::new(2);
    let others = std::iter::repeat_with(|| random.guid());
    let objects = std::iter::once(user.oid).chain(others).take(size);
    let items = objects.map(|object| item(object, user.tid)).collect();
    database.import_items(ASSIGNMENTS_TABLE, items, ImportOptions::default()).unwrap();
}

fn item(object: Uuid, tenant: Uuid) -> Item {
    let assignment = Assignment {
        object_id: object,
        tenant_id: tenant,
        principal_type: PrincipalType::User,
        client_ids: None,
    };
    let text = |text: String| AttributeValue::S(text);
    let sk = object.to_string();
    Item::from([
        ("pk".to_owned(), text(format!("{}#{}", AssignmentKind::Entra.as_str(), &sk[..1]))),
        ("sk".to_owned(), text(sk)),
        ("assignments".to_owned(), text(serde_json::to_string(&[assignment]).unwrap())),
    ])
}
