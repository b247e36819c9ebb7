//! The capability matrix through the authorizer: every operation, every scope and both shapes of gateway. Each policy
//! is evaluated for every route, because a gateway may cache it.

use e2e::router::{Shape, Verdict, ask, by_policy, event, execute};
use e2e::test_service::{Ports, TestService};
use functions::authorizer;
use identity::keys::Algorithm;
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::Value;

const SCOPES: [&str; 5] = ["chat", "chat.join", "chat.join.limited", "voip", "voip.join"];

/// The tables of the identity model with a request for each row. `role` counts as permitted, because the resource
/// server checks the role in the room.
const TABLE: &str = "
    # method path                                            chat .join .limited voip .join
    POST     /chat/threads                                   Y    N     N        N    N
    PATCH    /chat/threads/19:t@thread.v2                    Y    N     N        N    N
    DELETE   /chat/threads/19:t@thread.v2                    Y    N     N        N    N
    POST     /chat/threads/19:t@thread.v2/participants/:add    Y  Y     N        N    N
    POST     /chat/threads/19:t@thread.v2/participants/:remove Y  Y     N        N    N
    GET      /chat/threads                                   Y    Y     Y        N    N
    GET      /chat/threads/19:t@thread.v2                    Y    Y     Y        N    N
    GET      /chat/threads/19:t@thread.v2/readReceipts       Y    Y     Y        N    N
    POST     /chat/threads/19:t@thread.v2/readReceipts       Y    Y     Y        N    N
    POST     /chat/threads/19:t@thread.v2/messages           Y    Y     Y        N    N
    GET      /chat/threads/19:t@thread.v2/messages/1709      Y    Y     Y        N    N
    PATCH    /chat/threads/19:t@thread.v2/messages/1709      Y    Y     Y        N    N
    DELETE   /chat/threads/19:t@thread.v2/messages/1709      Y    Y     Y        N    N
    POST     /chat/threads/19:t@thread.v2/typing             Y    Y     Y        N    N
    GET      /chat/threads/19:t@thread.v2/participants       Y    Y     Y        N    N
    POST     /calls                                          N    N     N        Y    N
    POST     /rooms/r/calls                                  N    N     N        Y    Y
    POST     /calls/c/:join                                  N    N     N        Y    Y
    POST     /rooms/r/calls/c/:join                          N    N     N        Y    Y
    POST     /calls/c/:mute                                  N    N     N        Y    Y
    POST     /rooms/r/calls/c/:mute                          N    N     N        role role
";

struct Row {
    method: &'static str,
    path: &'static str,
    permits: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows = lines.map(|line| {
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let permits: Vec<_> = words.collect();
        assert_eq!(permits.len(), SCOPES.len(), "{line}");
        Row { method, path, permits }
    });
    rows.collect()
}

impl Row {
    fn is_permitted(&self, scopes: &[&str]) -> bool {
        let column = |scope: &&str| SCOPES.iter().position(|known| known == scope).unwrap();
        scopes.iter().any(|scope| self.permits[column(scope)] != "N")
    }
}

/// Requests without a row. They are refused for every scope.
const UNKNOWN: [(&str, &str); 10] = [
    ("GET", "/"),
    ("PUT", "/chat/threads"),
    ("GET", "/chat/threads/t/secret"),
    ("GET", "/chat/threads/t/messages/m/history"),
    ("DELETE", "/chat/threads/t/messages"),
    ("POST", "/chat/threads/t/participants"),
    ("POST", "/chat/threads/t/participants/:promote"),
    ("GET", "/chat"),
    ("POST", "/Chat/Threads"),
    ("HEAD", "/chat/threads"),
];

async fn service() -> TestService {
    let (ports, _) = Ports::memory();
    TestService::new(ports, Algorithm::Es256, 57).await
}

async fn token(service: &TestService, scopes: &[&str]) -> String {
    let id = service.create().await;
    let target = format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01");
    let body = serde_json::json!({"scopes": scopes}).to_string();
    service.send("POST", &target, &body).await.token().unwrap()
}

#[tokio::test]
async fn each_scope_permits_the_operations_of_the_identity_model() {
    let service = service().await;
    let rows = rows();
    assert_eq!(rows.len(), 21);
    for scope in SCOPES {
        let token = token(&service, &[scope]).await;
        for row in &rows {
            for shape in Shape::BOTH {
                let verdict = ask(&service.authorizer, shape, row.method, row.path, &token).await;
                let expected = row.is_permitted(&[scope]);
                assert_eq!(verdict.is_allowed(), expected, "{shape:?} {} {} {scope}", row.method, row.path);
                if let Verdict::Allowed(context) = verdict {
                    assert_eq!(context["scopes"], scope);
                    let by_role = if scope.starts_with("voip") { "voip.act_in_room_call" } else { "" };
                    assert_eq!(context["capabilitiesByRoomRole"], by_role);
                    assert_eq!(context["resourceId"], "1b5cc06b-f352-4571-b1e6-d9b259b7c776");
                    assert!(context["identity"].as_str().unwrap().starts_with("8:acs:1b5cc06b"));
                    assert!(
                        context.as_object().unwrap().values().all(Value::is_string),
                        "a REST API accepts strings only"
                    );
                } else {
                    assert_eq!(verdict, Verdict::Forbidden);
                }
            }
        }
        for (method, path) in UNKNOWN {
            for shape in Shape::BOTH {
                let verdict = ask(&service.authorizer, shape, method, path, &token).await;
                assert_eq!(verdict, Verdict::Forbidden, "{shape:?} {method} {path} {scope}");
            }
        }
    }
}

async fn policy_for(service: &TestService, token: &str, method: &str, path: &str) -> Value {
    let event = event(Shape::Rest, method, path, "", &[&format!("Bearer {token}")]);
    authorizer::handle(&service.authorizer, event).await.unwrap()
}

/// Requests that servers may read differently, because of dots, escapes or segments below the path of a rule.
const AMBIGUOUS: [(&str, &str); 9] = [
    ("DELETE", "/chat/threads/t/messages/.."),
    ("PATCH", "/chat/threads/t/messages/x/../.."),
    ("DELETE", "/chat/threads/t/messages/a/b"),
    ("GET", "/chat/threads/t/images/x"),
    ("GET", "/chat/threads/*"),
    ("GET", "/chat/threads/${aws:username}"),
    ("GET", "/chat/thread?"),
    ("GET", "/chat/%74hreads"),
    ("GET", "//chat/threads"),
];

/// A gateway may cache a policy and apply it to other requests with the same token. The cached policy may refuse such a
/// request. It must not permit a request that the request's own policy refuses.
#[tokio::test]
async fn a_cached_policy_never_permits_more() {
    let service = service().await;
    let rows = rows();
    let with_row = rows.iter().map(|row| (row.method, row.path));
    let requests: Vec<_> = with_row.chain(UNKNOWN).chain(AMBIGUOUS).collect();
    for scopes in
        [&["chat"][..], &["chat.join"], &["chat.join.limited"], &["voip", "chat.join"], &["voip.join"]]
    {
        let token = token(&service, scopes).await;
        for first in &requests {
            let policy = policy_for(&service, &token, first.0, first.1).await;
            for second in &requests {
                let is_allowed = by_policy(&policy, second.0, second.1).is_allowed();
                let row = rows.iter().find(|row| (row.method, row.path) == *second);
                let is_permitted = row.is_some_and(|row| row.is_permitted(scopes));
                assert!(
                    is_permitted || !is_allowed,
                    "{second:?} is allowed by the policy for {first:?}, {scopes:?}"
                );
                assert!(
                    first != second || is_allowed == is_permitted,
                    "{first:?} by its own policy, {scopes:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn several_scopes_permit_the_union_of_their_operations(scopes in subsequence(SCOPES.to_vec(), 1..=5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let service = service().await;
            let token = token(&service, &scopes).await;
            for row in rows() {
                for shape in Shape::BOTH {
                    let verdict = ask(&service.authorizer, shape, row.method, row.path, &token).await;
                    prop_assert_eq!(verdict.is_allowed(), row.is_permitted(&scopes));
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn ambiguous_paths_are_refused() {
    let service = service().await;
    let token = token(&service, &["chat", "voip"]).await;
    for path in [
        "//chat/threads",
        "/chat//threads",
        "/chat/./threads",
        "/chat/threads/",
        "/chat/threads/../threads",
        "/chat/threads/a%2Fmessages",
        "/chat/threads/a\\messages",
        "/chat/threads/a;x=1",
        "/chat/threads/a\u{0}",
        "/chat/threads/a?x",
        "/chat/threads/a#x",
        "chat/threads",
        "",
    ] {
        for shape in Shape::BOTH {
            let verdict = ask(&service.authorizer, shape, "GET", path, &token).await;
            assert_eq!(verdict, Verdict::Forbidden, "{shape:?} {path:?}");
        }
    }
}

/// A REST API passes the path as the client wrote it. An escaped slash does not separate segments.
#[tokio::test]
async fn an_escaped_slash_does_not_make_another_route() {
    let service = service().await;
    let token = token(&service, &["chat"]).await;
    for path in ["/chat/threads/t%2Fmessages/m", "/chat/threads/t%2fmessages%2fm", "/chat%2Fthreads"] {
        let mut event = event(Shape::Rest, "DELETE", path, "", &[&format!("Bearer {token}")]);
        event["path"] = path.into();
        let verdict = execute(&service.authorizer, Shape::Rest, event, "DELETE", path).await;
        assert_eq!(verdict, Verdict::Forbidden, "{path}");
    }
}

/// RFC 6750 section 2: a request must use only one method to transmit the token. The service accepts the header only.
#[tokio::test]
async fn tokens_outside_one_authorization_header_are_refused() {
    let service = service().await;
    let token = token(&service, &["chat"]).await;
    let bearer = format!("Bearer {token}");
    let with_scheme = |text: &str| bearer.replacen("Bearer ", text, 1);
    let ask = async |shape, query: &str, authorization: &[&str]| {
        let event = event(shape, "GET", "/chat/threads", query, authorization);
        execute(&service.authorizer, shape, event, "GET", "/chat/threads").await
    };
    for shape in Shape::BOTH {
        let refused = if shape == Shape::Http { Verdict::Forbidden } else { Verdict::Unauthorized };
        for accepted in [
            bearer.clone(),
            with_scheme("bearer "),
            with_scheme("BEARER "),
            with_scheme("Bearer  "),
            with_scheme("Bearer\t"),
            with_scheme(" Bearer "),
            format!("{bearer} "),
        ] {
            assert!(ask(shape, "api-version=2024-03-07", &[&accepted]).await.is_allowed(), "{shape:?}");
        }
        for malformed in [
            with_scheme(""),
            with_scheme("Bearer"),
            with_scheme("Basic "),
            with_scheme("Bearer \""),
            with_scheme("Bearer Bearer "),
            format!("{bearer} {bearer}"),
            format!("{bearer},"),
            with_scheme("HMAC-SHA256 "),
            String::new(),
        ] {
            assert_eq!(ask(shape, "", &[&malformed]).await, refused, "{shape:?} {malformed:.20}");
        }
        assert_eq!(ask(shape, "", &[]).await, refused, "no header");
        assert_eq!(ask(shape, "", &[&bearer, &bearer]).await, refused, "two headers");
        let in_query = format!("access_token={token}");
        assert_eq!(ask(shape, &in_query, &[&bearer]).await, refused, "a second token in the query");
        assert_eq!(ask(shape, &in_query, &[]).await, refused, "only in the query");
        let escaped = format!("Access%5FToken={token}");
        assert_eq!(ask(shape, &escaped, &[&bearer]).await, refused, "in the query, escaped");
    }
}

#[tokio::test]
async fn malformed_events_get_an_error_and_no_verdict() {
    let service = service().await;
    let valid = event(Shape::Rest, "GET", "/chat/threads", "", &["Bearer a.b.c"]);
    let with = |member: &str, value: Value| {
        let mut event = valid.clone();
        event[member] = value;
        event
    };
    for malformed in [
        Value::Null,
        serde_json::json!([]),
        serde_json::json!({"type": "TOKEN", "methodArn": valid["methodArn"], "authorizationToken": "Bearer a.b.c"}),
        with("version", "3.0".into()),
        with("methodArn", "arn:aws:s3:::bucket/v1/GET/x".into()),
        with("methodArn", "arn".into()),
        with("methodArn", "arn:aws:execute-api:us-east-1:1:a*/v1/GET/x".into()),
        with("httpMethod", "G ET".into()),
        with("multiValueHeaders", serde_json::json!({"Authorization": ["a\nb"]})),
        with("path", Value::Null),
    ] {
        let answer = authorizer::handle(&service.authorizer, malformed.clone()).await;
        assert!(matches!(answer, Err(authorizer::AuthorizerError::Event(_))), "{malformed}");
    }
    // An unknown member is ignored, because API Gateway may add members.
    let further = authorizer::handle(&service.authorizer, with("further", 1.into())).await;
    assert!(matches!(further, Err(authorizer::AuthorizerError::Unauthorized)));
}
