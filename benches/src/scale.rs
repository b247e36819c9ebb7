//! The cost of many identities, of many assignments, of many connections, and of open consoles.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use benches::store_call::TABLE;
use dynoxide::{AttributeValue, Database, ImportOptions, Item};
use http::StatusCode;
use identity::ids::{ResourceId, UserId};
use identity::keys::Algorithm;
use identity::runtime::Random as _;
use identity::testing::SeededRandom;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

use crate::MILLION;
use crate::assignments;
use crate::generator::ask_all;
use crate::programs::{Server, scratch, state_directory};
use crate::report::{Section, Table, at_most, figure};
use crate::scenario::{Rounds, Scenario, Site};

const SIZES: [usize; 4] = [1_000, 100_000, MILLION, 10 * MILLION];
const SCENARIOS: [Scenario; 2] = [Scenario::Issue, Scenario::Introspect];
const ROUNDS: usize = 5;
const CELL: Duration = Duration::from_secs(2);
/// The number of connections for the sizes.
const TYPICAL: usize = 8;
const CONNECTIONS: [usize; 5] = [1, 8, 32, 128, 512];
/// The streams of events that the server allows at a time.
const CONSOLES: usize = 4;
/// The rounds with and without consoles are many and short, because the difference is small.
const CONSOLE_ROUNDS: usize = 15;
const CONSOLE_CELL: Duration = Duration::from_millis(500);
/// Identities of the requests, in turn. The database caches far fewer.
const SAMPLE: usize = 10_000;
/// Items in one transaction.
const PORTION: usize = 20_000;

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut section = Section::begin("scale");
    let sites = SIZES.map(|size| runtime.block_on(site(size)));
    section.add(&identities(&runtime, &sites));
    section.add(&assignments::table(&runtime));
    section.add(&connections(&runtime, &sites[0]));
    section.add(&consoles(&runtime, &sites[0], &name_of(SIZES[0])));
    section
}

fn identities(runtime: &Runtime, sites: &[Site; SIZES.len()]) -> Table {
    let mut table = Table::new(&["request", "identities", "CPU µs", "p50 ms", "÷ with 1000", "target"]);
    for scenario in SCENARIOS {
        let mut of_sizes = SIZES.map(|_| Rounds::default());
        for _ in 0..ROUNDS {
            for (site, rounds) in sites.iter().zip(&mut of_sizes) {
                rounds.push(runtime.block_on(site.measure(scenario, TYPICAL, CELL)));
            }
        }
        for (size, rounds) in SIZES.into_iter().zip(&of_sizes) {
            let ratio = rounds.ratio(|round| of_sizes[0].cpu_of(round));
            table.row([
                format!("{}, ES256", scenario.name()),
                size.to_string(),
                figure(rounds.median(|figures| figures.cpu)),
                figure(rounds.median(|figures| figures.p50)),
                figure(ratio),
                if size == MILLION { at_most(ratio, 1.15) } else { String::new() },
            ]);
        }
    }
    table
}

fn connections(runtime: &Runtime, site: &Site) -> Table {
    let [cpu, per_second, p50, p99] = Rounds::COLUMNS;
    let mut table =
        Table::new(&["request", "connections", cpu, per_second, p50, p99, "most memory so far, MB"]);
    for connections in CONNECTIONS {
        let mut rounds = Rounds::default();
        for _ in 0..ROUNDS {
            rounds.push(runtime.block_on(site.measure(Scenario::Issue, connections, CELL)));
        }
        let row = ["issue, ES256".to_owned(), connections.to_string()].into_iter().chain(rounds.cells());
        table.row(row.chain([figure(site.server.peak())]));
    }
    table
}

/// Issues while no console is open, and while as many are open as the server allows.
fn consoles(runtime: &Runtime, site: &Site, state: &str) -> Table {
    let token = fs::read_to_string(state_directory(state).join("control-token")).unwrap();
    let (mut closed, mut open) = (Rounds::default(), Rounds::default());
    for _ in 0..CONSOLE_ROUNDS {
        closed.push(runtime.block_on(site.measure(Scenario::Issue, TYPICAL, CONSOLE_CELL)));
        let consoles: Vec<_> = (0..CONSOLES).map(|_| Console::open(site.server.address, &token)).collect();
        open.push(runtime.block_on(site.measure(Scenario::Issue, TYPICAL, CONSOLE_CELL)));
        for console in consoles {
            assert!(console.close() > 0, "a console got no line");
        }
    }
    let mut table = Table::new(&["request", "open consoles", "CPU µs", "p50 ms", "÷ with none", "target"]);
    for (consoles, rounds) in [(0, &closed), (CONSOLES, &open)] {
        let ratio = rounds.ratio(|round| closed.cpu_of(round));
        table.row([
            "issue, ES256".to_owned(),
            consoles.to_string(),
            figure(rounds.median(|figures| figures.cpu)),
            figure(rounds.median(|figures| figures.p50)),
            figure(ratio),
            if consoles > 0 { at_most(ratio, 1.05) } else { String::new() },
        ]);
    }
    table
}

/// The reader of a stream of events, as an open console has one.
struct Console {
    stream: TcpStream,
    /// Counts the lines of requests.
    reader: JoinHandle<usize>,
}

impl Console {
    fn open(address: SocketAddr, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        let host = format!("localhost:{}", address.port());
        write!(
            stream,
            "GET /_local/v1/events HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "HTTP/1.1 200 OK");
        let read = || lines.map_while(Result::ok).filter(|line| line == "event: request").count();
        Self { stream, reader: std::thread::spawn(read) }
    }

    fn close(self) -> usize {
        self.stream.shutdown(Shutdown::Both).unwrap();
        self.reader.join().unwrap()
    }
}

/// The name of the server's state directory.
pub fn name_of(size: usize) -> String {
    format!("scale-{size}")
}

/// A server with this number of identities, and tokens of some identities.
pub async fn site(size: usize) -> Site {
    let state = scratch(&name_of(size));
    let resource = resource_of(Site::new(Server::local(&state, Algorithm::Es256)).await);
    let identities = seed(&state, resource, size);
    let step = (size / SAMPLE).max(1);
    let issued: Vec<String> = identities.into_iter().step_by(step).collect();
    let server = Server::local(&state, Algorithm::Es256);
    let mut site = Site { server, issued, tokens: Vec::new(), revoked: Vec::new() };
    let work = Scenario::Issue.work(&site);
    let answers = ask_all(site.server.address, work.requests, StatusCode::OK).await;
    let token = |body: &[u8]| -> Option<String> {
        serde_json::from_slice::<Value>(body).ok()?.get("token")?.as_str().map(str::to_owned)
    };
    site.tokens = answers.iter().map(|body| token(body).unwrap()).collect();
    site.check().await;
    site
}

/// The resource that the server made. The server ends here.
fn resource_of(site: Site) -> ResourceId {
    let identity = site.issued.first().unwrap();
    identity.trim_start_matches("8:acs:").split('_').next().unwrap().parse().unwrap()
}

/// Writes the identities in the form of the adapter, but in bulk, because every single creation waits for the disk.
fn seed(state: &Path, resource: ResourceId, size: usize) -> Vec<String> {
    let database = Database::new(state.join("dynamodb.sqlite").to_str().unwrap()).unwrap();
    database.enable_bulk_loading().unwrap();
    let random = SeededRandom::new(1);
    let now = OffsetDateTime::now_utc();
    let created = |index: usize| now - Duration::from_secs((size - index) as u64);
    let identity = |index| UserId::mint(resource, created(index), &random).to_string();
    let identities: Vec<String> = (0..size).map(identity).collect();
    for (portion, ids) in identities.chunks(PORTION).enumerate() {
        let made = |(index, id): (usize, &String)| item(id, created(portion * PORTION + index), &random);
        let items = ids.iter().enumerate().map(made).collect();
        database.import_items(TABLE, items, ImportOptions::default()).unwrap();
    }
    identities
}

fn item(identity: &str, created: OffsetDateTime, random: &SeededRandom) -> Item {
    let mut creation = [0; 16];
    random.fill(&mut creation);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: i64| AttributeValue::N(number.to_string());
    Item::from([
        ("pk".to_owned(), text(&format!("identity#{identity}"))),
        ("state".to_owned(), text("live")),
        ("revision".to_owned(), number(1)),
        ("creation".to_owned(), text(&format!("{:032x}", u128::from_be_bytes(creation)))),
        ("created_at".to_owned(), number(created.unix_timestamp())),
    ])
}
