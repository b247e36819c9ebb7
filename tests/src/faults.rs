//! Faults at the HTTP boundary of the AWS SDK. A call may fail before its effect, lose its answer after its effect, get
//! no answer, or arrive late. An embedded service executes the calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use identity::runtime::Random as _;
use identity::testing::SeededRandom;

/// A text in the body of every faulty answer. Services quote request data in their messages, so no such message may
/// reach a log or a client.
pub const CANARY: &str = "canary-in-a-service-message";

/// A fault of one HTTP call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service throttles the call. The call has no effect.
    Throttle,
    /// The service answers 500. The call has no effect.
    InternalError,
    /// The connection breaks before the request arrives. The call has no effect.
    BreakBefore,
    /// The call takes effect, and the connection breaks before the answer.
    BreakAfter,
    /// The call takes effect, and no answer arrives.
    SilentAfter,
    /// The call has no effect, and no answer arrives.
    SilentBefore,
    /// No answer arrives. The call takes effect when [`FaultyClient::deliver_late`] runs.
    Late,
    /// The call has no effect, and the answer is HTML with status 200.
    Garbage,
    /// A batch answer that lists every key as unprocessed. Other calls are unchanged.
    Unprocessed,
    /// A batch answer that lists the keys of the state table as unprocessed. Other calls are unchanged. It is not in
    /// [`Self::ALL`], because it needs a batch of two tables.
    StateUnprocessed,
    /// The write meets a transaction over one of its items and has no effect. Other calls are unchanged. It is not in
    /// [`Self::ALL`], because a read meets no conflict.
    Conflict,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 9] = [
        Self::Throttle,
        Self::InternalError,
        Self::BreakBefore,
        Self::BreakAfter,
        Self::SilentAfter,
        Self::SilentBefore,
        Self::Late,
        Self::Garbage,
        Self::Unprocessed,
    ];
}

type Plan = dyn FnMut(&str) -> Option<Fault> + Send;

/// An HTTP client that wraps another one. It injects faults by a plan and counts the calls.
#[derive(Clone)]
pub struct FaultyClient {
    inner: SharedHttpConnector,
    state: Arc<Mutex<State>>,
}

struct State {
    plan: Box<Plan>,
    /// Decides how often a call yields to other tasks.
    random: SeededRandom,
    calls: HashMap<String, usize>,
    late: Vec<HttpRequest>,
    /// Set while DynamoDB calls are measured.
    units: Option<Units>,
}

/// The DynamoDB capacity that calls have consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    pub read: f64,
    pub write: f64,
}

impl std::fmt::Debug for FaultyClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyClient")
    }
}

impl FaultyClient {
    /// A client over `inner` without faults. It yields to other tasks before and after each call, a random number of
    /// times from `seed`, because the embedded service answers at once and a network does not.
    #[must_use]
    pub fn over(inner: impl HttpConnector + 'static, seed: u64) -> Self {
        let random = SeededRandom::new(seed);
        let state =
            State { plan: Box::new(|_| None), random, calls: HashMap::new(), late: Vec::new(), units: None };
        Self { inner: SharedHttpConnector::new(inner), state: Arc::new(Mutex::new(state)) }
    }

    /// Sets the plan: it receives the operation of each call and returns the fault.
    pub fn plan(&self, plan: impl FnMut(&str) -> Option<Fault> + Send + 'static) {
        self.state().plan = Box::new(plan);
    }

    /// Plans these faults for the next calls, in order. Later calls have no fault.
    pub fn plan_next(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut faults: std::collections::VecDeque<_> = faults.into_iter().collect();
        self.plan(move |_| faults.pop_front());
    }

    /// The number of calls since the start.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state().calls.values().sum()
    }

    /// The number of calls of one operation since the start.
    #[must_use]
    pub fn calls_of(&self, operation: &str) -> usize {
        self.state().calls.get(operation).copied().unwrap_or(0)
    }

    /// Measures the capacity of all calls from now on.
    pub fn measure(&self) {
        self.state().units = Some(Units::default());
    }

    /// The capacity that calls have consumed since the last [`Self::measure`].
    #[must_use]
    pub fn units(&self) -> Units {
        self.state().units.unwrap_or_default()
    }

    /// Makes a DynamoDB call of its own, without faults and uncounted.
    ///
    /// # Panics
    /// When the answer is not JSON.
    pub async fn dynamodb(&self, operation: &str, body: &serde_json::Value) -> serde_json::Value {
        let mut request = HttpRequest::new(body.to_string().into());
        request.headers_mut().insert("x-amz-target", format!("DynamoDB_20120810.{operation}"));
        let answer = self.inner.call(request).await.unwrap();
        serde_json::from_slice(answer.body().bytes().unwrap_or_default()).unwrap()
    }

    /// Delivers the delayed calls, as a network may do long after the timeout of the caller.
    pub async fn deliver_late(&self) {
        let late = std::mem::take(&mut self.state().late);
        for request in late {
            // The caller no longer waits, so the answer is dropped.
            let _ = self.inner.call(request).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn yield_to_others(&self) {
        let mut byte = [0];
        self.state().random.fill(&mut byte);
        for _ in 0..byte[0] % 4 {
            tokio::task::yield_now().await;
        }
    }

    async fn forward(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let is_measured = self.state().units.is_some();
        if is_measured {
            *request.body_mut() = with_capacity(&request);
        }
        self.yield_to_others().await;
        let answer = self.inner.call(request).await;
        self.yield_to_others().await;
        if let Ok(answer) = &answer
            && let Some(units) = &mut self.state().units
        {
            units.add(answer);
        }
        answer
    }

    async fn forward_without_state(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let body = request.body().bytes().unwrap_or_default();
        let mut body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let tables = body["RequestItems"].as_object_mut().map(std::mem::take).unwrap_or_default();
        let (assignments, state): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
            tables.into_iter().partition(|(table, _)| table.ends_with("-assignments"));
        body["RequestItems"] = assignments.into();
        *request.body_mut() = body.to_string().into();
        let answered = self.forward(request).await?;
        let mut body: serde_json::Value =
            serde_json::from_slice(answered.body().bytes().unwrap_or_default()).unwrap_or_default();
        body["UnprocessedKeys"] = state.into();
        Ok(answer(200, &body.to_string()))
    }

    fn next(&self, operation: &str) -> Option<Fault> {
        let mut state = self.state();
        *state.calls.entry(operation.to_owned()).or_default() += 1;
        (state.plan)(operation)
    }
}

impl HttpConnector for FaultyClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let fault = self.next(&operation);
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            match fault {
                None => this.forward(request).await,
                Some(Fault::Throttle) => Ok(error_answer(400, "ThrottlingException")),
                Some(Fault::InternalError) => Ok(error_answer(500, "InternalServerError")),
                Some(Fault::BreakBefore) => Err(broken()),
                Some(Fault::BreakAfter) => {
                    let _ = this.forward(request).await;
                    Err(broken())
                }
                Some(Fault::SilentAfter) => {
                    let _ = this.forward(request).await;
                    std::future::pending().await
                }
                Some(Fault::SilentBefore) => std::future::pending().await,
                Some(Fault::Late) => {
                    this.state().late.push(request);
                    std::future::pending().await
                }
                Some(Fault::Garbage) => Ok(answer(200, &format!("<html>{CANARY}</html>"))),
                Some(Fault::Unprocessed) if operation == "BatchGetItem" => Ok(unprocessed(&request)),
                Some(Fault::StateUnprocessed) if operation == "BatchGetItem" => {
                    this.forward_without_state(request).await
                }
                Some(Fault::Conflict) if operation == "TransactWriteItems" => Ok(conflict()),
                Some(Fault::Conflict) if ["PutItem", "UpdateItem"].contains(&operation.as_str()) => {
                    Ok(error_answer(400, "TransactionConflictException"))
                }
                Some(Fault::Unprocessed | Fault::StateUnprocessed | Fault::Conflict) => {
                    this.forward(request).await
                }
            }
        })
    }
}

impl HttpClient for FaultyClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Units {
    /// Adds the capacity of one answer. The unit of a batch or a query is a read.
    fn add(&mut self, answer: &HttpResponse) {
        let answer: serde_json::Value =
            serde_json::from_slice(answer.body().bytes().unwrap_or_default()).unwrap_or_default();
        let is_read = answer.get("Responses").or(answer.get("Items")).is_some();
        let consumed = answer.get("ConsumedCapacity").cloned().unwrap_or_default();
        let tables = consumed.as_array().cloned().unwrap_or_else(|| vec![consumed]);
        let units: f64 = tables.iter().filter_map(|table| table.get("CapacityUnits")?.as_f64()).sum();
        *(if is_read { &mut self.read } else { &mut self.write }) += units;
    }
}

/// The body with the request to report the consumed capacity.
fn with_capacity(request: &HttpRequest) -> SdkBody {
    let body = request.body().bytes().unwrap_or_default();
    let mut body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(members) = body.as_object_mut() {
        members.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
    }
    body.to_string().into()
}

fn broken() -> ConnectorError {
    ConnectorError::io("connection reset".into())
}

fn error_answer(status: u16, code: &str) -> HttpResponse {
    answer(status, &serde_json::json!({"__type": code, "message": CANARY}).to_string())
}

fn conflict() -> HttpResponse {
    let reasons =
        serde_json::json!([{ "Code": "None" }, { "Code": "TransactionConflict", "Message": CANARY }]);
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let body = serde_json::json!({ "__type": kind, "Message": CANARY, "CancellationReasons": reasons });
    answer(400, &body.to_string())
}

fn answer(status: u16, body: &str) -> HttpResponse {
    let status = StatusCode::try_from(status).unwrap_or_else(|_| unreachable!("a constant status"));
    HttpResponse::new(status, body.to_owned().into())
}

/// A batch answer that lists every requested key as unprocessed.
fn unprocessed(request: &HttpRequest) -> HttpResponse {
    let body = request.body().bytes().unwrap_or_default();
    let request: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let keys = request.get("RequestItems").cloned().unwrap_or_default();
    answer(200, &serde_json::json!({"Responses": {}, "UnprocessedKeys": keys}).to_string())
}
