//! Start, memory and calls of the Lambda functions, beside a function that returns its event.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use benches::store_call::{ASSIGNMENTS_TABLE, TABLE};
use e2e::test_service::{Embedded, HOST};
use identity::keys::Algorithm;
use identity::secrets::SecretName;
use identity::testing::settings;

use crate::events::{Event, Resource};
use crate::measure::{CpuClock, median, memory, millis, spawn_on_other_core};
use crate::programs::{build, program};
use crate::report::{Section, Table, at_most, figure};
use crate::stubs::{RuntimeApi, serve_aws};

/// Starts of each function.
const STARTS: usize = 21;
/// Events until the memory is read. By then a function has stopped growing.
const EVENTS: usize = 10_000;
/// Events whose calls to AWS are counted.
const COUNTED: usize = 100;

/// The operations of AWS that the functions call for a request.
const OPERATIONS: [&str; 4] = ["BatchGetItem", "PutItem", "UpdateItem", "GetSecretValue"];

struct Subject {
    binary: &'static str,
    /// The first event after a start.
    first: Event,
    /// The events whose calls are counted, with the greatest number of calls for each.
    counted: &'static [(Event, usize)],
}

const FLOOR: Subject = subject("hello", Event::Echo, &[]);
const SUBJECTS: [Subject; 9] = [
    FLOOR,
    subject("user", Event::Create, &[(Event::Create, 2), (Event::CreateWithToken, 2), (Event::Delete, 2)]),
    subject("token", Event::Issue, &[(Event::Issue, 1), (Event::Refused, 0)]),
    subject("revoke", Event::Revoke, &[(Event::Revoke, 2)]),
    subject("teams-exchange", Event::Exchange, &[]),
    subject("introspect", Event::Introspect, &[(Event::Introspect, 1)]),
    subject("keys", Event::KeySet, &[(Event::KeySet, 0)]),
    subject("authorizer", Event::Authorize, &[(Event::Authorize, 1)]),
    subject("rotate-keys", Event::Regenerate, &[]),
];

const fn subject(binary: &'static str, first: Event, counted: &'static [(Event, usize)]) -> Subject {
    Subject { binary, first, counted }
}

/// A process of a function.
pub struct Started {
    pub child: Child,
    cpu: CpuClock,
    api: RuntimeApi,
    /// Time from the start to the first poll.
    pub to_poll: Duration,
}

impl Started {
    /// Starts a function. The variables say where it finds AWS.
    pub async fn new(binary: &str, aws: &[(&'static str, String)]) -> Self {
        let mut api = RuntimeApi::start().await;
        let mut command = Command::new(program(binary));
        let aws = aws.iter().cloned();
        command.env_clear().envs(environment(&api)).envs(aws).stdout(Stdio::null());
        let begun = Instant::now();
        let child = spawn_on_other_core(&mut command);
        let to_poll = api.polled().await - begun;
        Self { cpu: CpuClock::of(&child), child, api, to_poll }
    }

    /// Sends an event and returns the time to the reply.
    pub async fn invoke(&mut self, event: Event, bytes: bytes::Bytes) -> Duration {
        let sent = Instant::now();
        let (answered, reply) = self.api.invoke(bytes).await;
        event.check(&reply);
        self.api.polled().await;
        answered - sent
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment(api: &RuntimeApi) -> [(&'static str, String); 18] {
    let resource = settings().resource;
    [
        ("AWS_LAMBDA_RUNTIME_API", api.address.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", "f".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "g".to_owned()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "s".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("RESOURCE_ID", resource.id.to_string()),
        ("RESOURCE_LOCATION", resource.location.as_str().to_owned()),
        ("RESOURCE_REGION", resource.region.as_str().to_owned()),
        ("ISSUER", resource.issuer.as_str().to_owned()),
        ("ACCEPTED_HOSTS", HOST.to_owned()),
        ("TABLE_NAME", TABLE.to_owned()),
        ("ASSIGNMENTS_TABLE_NAME", ASSIGNMENTS_TABLE.to_owned()),
        ("ACCESS_KEYS_SECRET", SecretName::AccessKeys.as_str().to_owned()),
        ("SIGNING_KEYS_SECRET", SecretName::SigningKeys.as_str().to_owned()),
    ]
}

pub fn build_programs() {
    build(&["--package", "functions"]);
    build(&["--package", "benches", "--bin", FLOOR.binary]);
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut section = Section::begin("cold");
        let resource = Resource::new(Algorithm::Rs256).await;
        let aws = [("AWS_ENDPOINT_URL", format!("http://{}", serve_aws(&resource.aws).await))];
        section.add(&starts(&resource, &aws).await);
        for table in warm(&resource, &aws).await {
            section.add(&table);
        }
        section
    })
}

/// The figures of the starts of one function, in milliseconds.
#[derive(Default)]
struct Starts {
    to_poll: Vec<f64>,
    to_reply: Vec<f64>,
    cpu: Vec<f64>,
}

async fn starts(resource: &Resource, aws: &[(&'static str, String)]) -> Table {
    let mut all: [Starts; SUBJECTS.len()] = Default::default();
    for _ in 0..STARTS {
        for (Subject { binary, first, .. }, starts) in SUBJECTS.iter().zip(&mut all) {
            let event = resource.event(*first).await;
            let mut started = Started::new(binary, aws).await;
            starts.to_poll.push(millis(started.to_poll));
            starts.to_reply.push(millis(started.invoke(*first, event).await));
            starts.cpu.push(millis(started.cpu.read()));
        }
    }
    let mut table = Table::new(&[
        "function",
        "start to first poll, ms",
        "first event",
        "to its answer, ms",
        "sum, ms",
        "CPU ms by then",
        "binary, MB",
        "target",
    ]);
    for (Subject { binary, first, .. }, starts) in SUBJECTS.iter().zip(&all) {
        let (to_poll, to_reply) = (median(&starts.to_poll), median(&starts.to_reply));
        let size = program(binary).metadata().unwrap().len() as f64 / 1e6;
        let target = |verdict| if *binary == FLOOR.binary { String::new() } else { verdict };
        table.row([
            (*binary).to_owned(),
            figure(to_poll),
            first.name().to_owned(),
            figure(to_reply),
            figure(to_poll + to_reply),
            figure(median(&starts.cpu)),
            figure(size),
            target(at_most(size, 12.0)),
        ]);
    }
    table
}

/// The memory after many events, and the calls to AWS for each further event. The floor and `rotate-keys` serve no
/// requests, so they have no rows.
async fn warm(resource: &Resource, aws: &[(&'static str, String)]) -> [Table; 2] {
    let mut memories = Table::new(&["function", "memory after 10 000 events, MB", "target"]);
    let mut calls = Table::new(&["operation", "function", "calls to AWS, warm", "which", "target"]);
    for Subject { binary, first, counted } in &SUBJECTS {
        if matches!(first, Event::Echo | Event::Regenerate) {
            continue;
        }
        let mut started = Started::new(binary, aws).await;
        for _ in 0..EVENTS {
            started.invoke(*first, resource.event(*first).await).await;
        }
        let resident = memory(&started.child, "VmRSS");
        memories.row([(*binary).to_owned(), figure(resident), at_most(resident, 40.0)]);
        for (event, target) in *counted {
            calls.row(count(resource, &mut started, binary, *event, *target).await);
        }
    }
    [memories, calls]
}

async fn count(
    resource: &Resource,
    started: &mut Started,
    binary: &str,
    event: Event,
    target: usize,
) -> [String; 5] {
    // The events are made first, because the making of some events calls AWS. The first event warms the function up.
    let mut events = Vec::new();
    for _ in 0..=COUNTED {
        events.push(resource.event(event).await);
    }
    let mut events = events.into_iter();
    started.invoke(event, events.next().unwrap()).await;
    let before = calls(&resource.aws);
    for bytes in events {
        started.invoke(event, bytes).await;
    }
    let after = calls(&resource.aws);
    let number = |index: usize| (after[index] - before[index]) as f64 / COUNTED as f64;
    let made = OPERATIONS.iter().zip(1..).filter(|(_, index)| after[*index] > before[*index]);
    let names: Vec<_> = made.map(|(name, index)| format!("{name} {}", figure(number(index)))).collect();
    let verdict = at_most(number(0).round(), target as f64);
    [event.name().to_owned(), binary.to_owned(), figure(number(0)), names.join(", "), verdict]
}

/// The number of calls so far: of all operations, then of each.
fn calls(aws: &Embedded) -> [usize; OPERATIONS.len() + 1] {
    let of = |operation| aws.dynamodb.calls_of(operation) + aws.secrets.calls_of(operation);
    let [batch_get, put, update, secret] = OPERATIONS.map(of);
    [aws.dynamodb.calls() + aws.secrets.calls(), batch_get, put, update, secret]
}
