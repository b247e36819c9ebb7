//! Other token servers beside the local server, in one run. `benches/peers` has a program that starts each of them.
//!
//! A peer mints on a client-credentials request (RFC 6749 section 4.4), because it has no call like ours. A peer that cannot
//! be started here has a row that says why.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::Full;
use identity::keys::Algorithm;
use serde_json::Value;

use crate::generator::{Until, Work, ask_all, drive};
use crate::measure::{median, micros};
use crate::programs::{Server, scratch};
use crate::report::{Section, Table, at_least, figure};
use crate::scenario::{Scenario, Site, site};

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 8;
const CELL: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_millis(200);
/// Tokens that are introspected in turn.
const TOKENS: usize = 64;
/// Tokens that are revoked in one round. A peer revokes each one once.
const REVOKED: usize = 120;
/// The client secret of every peer.
const SECRET: &str = "b7e3f0c2a94d4d1f8f6e5a2c1b0d9e8f";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// A token server that is measured beside ours.
struct Peer {
    name: &'static str,
    folder: &'static str,
    /// Text of the table, and the argument of the program.
    tokens: &'static str,
    is_durable: bool,
    /// The algorithm of our tokens that is compared.
    beside: Algorithm,
    /// Whether it introspects and revokes tokens of this form.
    has_state: bool,
}

const PEERS: [Peer; 6] = [
    Peer::in_memory("opaque", Algorithm::Es256, true),
    Peer::in_memory("ES256", Algorithm::Es256, false),
    Peer::in_memory("RS256", Algorithm::Rs256, false),
    Peer::durable("Ory Hydra 2.3.0", "hydra", "RS256", Algorithm::Rs256),
    Peer::durable("Glewlwyd", "glewlwyd", "RS256", Algorithm::Rs256),
    Peer::durable("django-oauth-toolkit 3.4.1", "django", "opaque", Algorithm::Es256),
];

/// An address of a peer that takes forms.
struct Endpoint {
    address: SocketAddr,
    host: String,
    path: String,
}

/// A peer that is running.
struct Running {
    server: Server,
    token: Endpoint,
    introspect: Endpoint,
    revoke: Endpoint,
}

/// CPU microseconds of one request, and requests in a second. Not a number if the server has no such call.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    per_second: f64,
}

/// The costs of one round.
#[derive(Clone, Copy)]
struct Round {
    mint: Cost,
    introspect: Cost,
    revoke: Cost,
}

impl Cost {
    const NONE: Self = Self { cpu: f64::NAN, per_second: f64::NAN };
}

impl Peer {
    const fn in_memory(tokens: &'static str, beside: Algorithm, has_state: bool) -> Self {
        let name = "oidc-provider 9.13.3";
        Self { name, folder: "oidc-provider", tokens, is_durable: false, beside, has_state }
    }

    const fn durable(
        name: &'static str,
        folder: &'static str,
        tokens: &'static str,
        beside: Algorithm,
    ) -> Self {
        Self { name, folder, tokens, is_durable: true, beside, has_state: true }
    }

    /// Starts the peer, or returns the reason why it cannot start here.
    fn start(&self) -> Result<Running, String> {
        let state = scratch(&format!("peer-{}-{}", self.folder, self.tokens));
        let mut command = Command::new(Path::new(FOLDER).join(self.folder).join("start"));
        command.arg(state).arg(self.tokens).env("CLIENT_SECRET", SECRET);
        let (server, addresses) = Server::peer(&mut command)?;
        let endpoint = |name: &str| Endpoint::new(addresses[name].as_str().unwrap());
        let running = Running {
            server,
            token: endpoint("token"),
            introspect: endpoint("introspect"),
            revoke: endpoint("revoke"),
        };
        for endpoint in [&running.token, &running.introspect, &running.revoke] {
            endpoint.wait();
        }
        Ok(running)
    }
}

impl Endpoint {
    fn new(url: &str) -> Self {
        let url: http::Uri = url.parse().unwrap();
        let address = (Ipv4Addr::LOCALHOST, url.port_u16().unwrap()).into();
        Self { address, host: url.authority().unwrap().to_string(), path: url.path().to_owned() }
    }

    /// Waits until the server listens.
    fn wait(&self) {
        while std::net::TcpStream::connect(self.address).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn request(&self, form: &str) -> Request<Full<Bytes>> {
        let credential = STANDARD.encode(format!("bench:{SECRET}"));
        Request::post(&self.path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, format!("Basic {credential}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::copy_from_slice(form.as_bytes())))
            .unwrap()
    }

    fn requests(&self, tokens: &[String]) -> Work {
        let requests = tokens.iter().map(|token| self.request(&format!("token={token}"))).collect();
        Work { requests, status: StatusCode::OK }
    }
}

impl Running {
    fn mint(&self) -> Request<Full<Bytes>> {
        self.token.request("grant_type=client_credentials&scope=chat")
    }

    async fn tokens(&self, count: usize) -> Vec<String> {
        let requests = (0..count).map(|_| self.mint()).collect();
        let answers = ask_all(self.token.address, requests, StatusCode::OK).await;
        let token = |answer: &Bytes| serde_json::from_slice::<Value>(answer).unwrap()["access_token"].clone();
        answers.iter().map(|answer| token(answer).as_str().unwrap().to_owned()).collect()
    }

    async fn cost(&self, endpoint: &Endpoint, work: Work, until: Until) -> Cost {
        let before = self.server.cpu.read();
        let seen = drive(endpoint.address, work, CONNECTIONS, until).await;
        let cpu = micros(self.server.cpu.read() - before) / seen.requests();
        Cost { cpu, per_second: seen.per_second() }
    }

    async fn round(&self, has_state: bool) -> Round {
        let mints = || Work { requests: vec![self.mint()], status: StatusCode::OK };
        drive(self.token.address, mints(), CONNECTIONS, Until::Elapsed(WARM_UP)).await;
        let mint = self.cost(&self.token, mints(), Until::Elapsed(CELL)).await;
        if !has_state {
            return Round { mint, introspect: Cost::NONE, revoke: Cost::NONE };
        }
        // The memory of oidc-provider forgets old tokens, so these are new.
        let tokens = self.tokens(TOKENS).await;
        self.check(&tokens[0], true).await;
        let work = self.introspect.requests(&tokens);
        let introspect = self.cost(&self.introspect, work, Until::Elapsed(CELL)).await;
        let tokens = self.tokens(REVOKED).await;
        let work = self.revoke.requests(&tokens);
        let revoke = self.cost(&self.revoke, work, Until::Sent(REVOKED)).await;
        self.check(&tokens[0], false).await;
        Round { mint, introspect, revoke }
    }

    /// Panics if the peer gives another answer, because then something else would be measured.
    async fn check(&self, token: &str, is_active: bool) {
        let request = self.introspect.request(&format!("token={token}"));
        let answer = ask_all(self.introspect.address, vec![request], StatusCode::OK).await.remove(0);
        assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["active"], is_active);
    }
}

async fn own_round(site: &Site) -> Round {
    let mut costs = [Cost::NONE; 3];
    for (cost, scenario) in costs.iter_mut().zip([Scenario::Issue, Scenario::Introspect, Scenario::Revoke]) {
        let figures = site.measure(scenario, CONNECTIONS, CELL).await;
        *cost = Cost { cpu: figures.cpu, per_second: figures.per_second };
    }
    let [mint, introspect, revoke] = costs;
    Round { mint, introspect, revoke }
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut section = Section::begin("peers");
    let own = [Algorithm::Es256, Algorithm::Rs256]
        .map(|algorithm| site(&runtime, &format!("peers-{}", algorithm.as_str()), algorithm));
    let peers = PEERS.map(|peer| (peer.start(), peer));
    let mut own_rounds = [Vec::new(), Vec::new()];
    let mut peer_rounds: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (rounds, site) in own_rounds.iter_mut().zip(&own) {
            rounds.push(runtime.block_on(own_round(site)));
        }
        for (rounds, (running, peer)) in peer_rounds.iter_mut().zip(&peers) {
            if let Ok(running) = running {
                rounds.push(runtime.block_on(running.round(peer.has_state)));
            }
        }
    }
    section.add(&table(&own, &own_rounds, &peers, &peer_rounds));
    section.add(&targets(&own_rounds, &peers, &peer_rounds));
    section
}

fn table(
    own: &[Site; 2],
    own_rounds: &[Vec<Round>; 2],
    peers: &[(Result<Running, String>, Peer)],
    peer_rounds: &[Vec<Round>],
) -> Table {
    let mut table = Table::new(&[
        "server",
        "tokens",
        "state",
        "mint µs",
        "mint/s",
        "introspect µs",
        "introspect/s",
        "revoke µs",
        "revoke/s",
        "most MB",
    ]);
    let mut row = |name: &str, tokens: &str, state: &str, rounds: &[Round], memory: f64| {
        let of = |figure: fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        let figures = [
            of(|round| round.mint.cpu),
            of(|round| round.mint.per_second),
            of(|round| round.introspect.cpu),
            of(|round| round.introspect.per_second),
            of(|round| round.revoke.cpu),
            of(|round| round.revoke.per_second),
            memory,
        ];
        let texts = [name, tokens, state].map(str::to_owned);
        table.row(texts.into_iter().chain(figures.map(figure)));
    };
    for ((site, rounds), tokens) in own.iter().zip(own_rounds).zip(["ES256", "RS256"]) {
        row("this server", tokens, "durable", rounds, site.server.peak());
    }
    for ((running, peer), rounds) in peers.iter().zip(peer_rounds) {
        let state = if peer.is_durable { "durable" } else { "in memory" };
        match running {
            Ok(running) => row(peer.name, peer.tokens, state, rounds, running.server.peak()),
            Err(reason) => {
                row(&format!("{}: not measured, {reason}", peer.name), peer.tokens, state, &[], f64::NAN);
            }
        }
    }
    table
}

/// The ratios of CPU time for one request. A peer's is compared with ours of the same round.
fn targets(
    own_rounds: &[Vec<Round>; 2],
    peers: &[(Result<Running, String>, Peer)],
    peer_rounds: &[Vec<Round>],
) -> Table {
    let mut table = Table::new(&["CPU of the peer / ours", "tokens", "mint", "introspect", "revoke"]);
    for ((_, peer), rounds) in peers.iter().zip(peer_rounds).filter(|(_, rounds)| !rounds.is_empty()) {
        let own = &own_rounds[usize::from(peer.beside == Algorithm::Rs256)];
        let ratio = |of: fn(&Round) -> f64, target: f64| {
            let ratios: Vec<f64> = rounds.iter().zip(own).map(|(peer, own)| of(peer) / of(own)).collect();
            let ratio = median(&ratios);
            if ratio.is_nan() {
                "–".to_owned()
            } else {
                format!("{} ({})", figure(ratio), at_least(ratio, target))
            }
        };
        let [mint, introspect, revoke] = if peer.is_durable { [5.0, 2.0, 2.0] } else { [1.8, 1.3, 1.0] };
        table.row([
            peer.name.to_owned(),
            peer.tokens.to_owned(),
            ratio(|round| round.mint.cpu, mint),
            ratio(|round| round.introspect.cpu, introspect),
            ratio(|round| round.revoke.cpu, revoke),
        ]);
    }
    table
}
