//! The time from the reply to a revocation until a follower of the feed knows it, on the local server.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use identity::keys::Algorithm;
use serde_json::Value;
use tokio::task::LocalSet;

use crate::generator::{answer, connect};
use crate::measure::{micros, quantile};
use crate::programs::{released_server, state_directory};
use crate::report::{Section, Table, figure};
use crate::scenario::{Site, site};

const REVOCATIONS: usize = 500;

/// The pause between two revocations. It is no multiple of the server's pause between two reads.
const PAUSE: Duration = Duration::from_millis(37);

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut section = Section::begin("feed");
    let site = site(&runtime, "feed", Algorithm::Es256);
    let credential = credential(&state_directory("feed"));
    let lags = runtime.block_on(LocalSet::new().run_until(lags(&site, &credential)));
    let mut table = Table::new(&["revocations", "p50, ms", "p99, ms", "max, ms"]);
    let shares = [0.5, 0.99, 1.0].map(|share| figure(quantile(&lags, share) / 1e3));
    table.row(std::iter::once(lags.len().to_string()).chain(shares));
    section.add(&table);
    section
}

/// Revokes and follows at once. Returns the microseconds from each reply to the end in the feed.
async fn lags(site: &Site, credential: &str) -> Vec<f64> {
    let follow = async |after: Option<&str>, follower: &mut _| {
        let query = after.map(|cursor| format!("?after={cursor}&wait=20")).unwrap_or_default();
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("/revocations{query}"))
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, credential);
        let body = answer(follower, request.body(Full::new(Bytes::new())).unwrap(), StatusCode::OK).await;
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let mut follower = connect(site.server.address).await;
    let mut cursor = follow(None, &mut follower).await["cursor"].as_str().unwrap().to_owned();
    let revoking = async {
        let mut connection = connect(site.server.address).await;
        let mut replied = Vec::new();
        for id in site.revoked.iter().cycle().take(REVOCATIONS) {
            tokio::time::sleep(PAUSE).await;
            let target = format!("/identities/{id}/:revokeAccessTokens?api-version=2023-10-01");
            answer(&mut connection, site.server.signed(&target, ""), StatusCode::NO_CONTENT).await;
            replied.push((id.clone(), Instant::now()));
        }
        replied
    };
    let following = async {
        let mut seen = Vec::new();
        while seen.len() < REVOCATIONS {
            let page = follow(Some(&cursor), &mut follower).await;
            page["cursor"].as_str().unwrap().clone_into(&mut cursor);
            let ends = page["ends"].as_array().unwrap().iter();
            seen.extend(ends.map(|end| (end["identity"].as_str().unwrap().to_owned(), Instant::now())));
        }
        seen
    };
    let (replied, seen) = tokio::join!(revoking, following);
    let mut by_identity: HashMap<String, Vec<Instant>> = HashMap::new();
    for (id, at) in seen {
        by_identity.entry(id).or_default().push(at);
    }
    by_identity.values_mut().for_each(|times| times.reverse());
    let lag = |(id, at): (String, Instant)| {
        let seen = by_identity.get_mut(&id).and_then(Vec::pop).expect("an end for each revocation");
        micros(seen.saturating_duration_since(at))
    };
    replied.into_iter().map(lag).collect()
}

/// The value of `Authorization` of a resource server.
fn credential(state: &std::path::Path) -> String {
    let mut add = Command::new(released_server());
    add.arg("--data-dir").arg(state).args(["resource-server", "add", "bench", "-o", "json"]);
    let output = add.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let added: Value = serde_json::from_slice(&output.stdout).unwrap();
    let member = |name: &str| added[name].as_str().unwrap().to_owned();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", member("client_id"), member("client_secret"))))
}
