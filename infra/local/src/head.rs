//! The size of a request's head, compared with the limit of API Gateway.

use http::request::Parts;

use crate::console;

/// Largest request line with headers that API Gateway accepts, in bytes. It refuses a larger one before any function runs,
/// so no audit line reports it.
const GATEWAY_LIMIT: usize = 10_240;

/// Warns of a head that this server accepts and API Gateway refuses.
pub(crate) fn check(parts: &Parts) {
    if let Some(warning) = warning(parts) {
        console::warn(&warning);
    }
}

fn warning(parts: &Parts) -> Option<String> {
    let size = size(parts);
    (size > GATEWAY_LIMIT).then(|| {
        format!(
            "the request line and the headers of a {} request have {size} bytes; API Gateway refuses more than \
             {GATEWAY_LIMIT}, so use a shorter token (docs/entra.md#large-tokens)",
            parts.method
        )
    })
}

/// The bytes of the head in HTTP/1.1, also for a request that came by HTTP/2.
fn size(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(1, |target| target.as_str().len());
    let line = parts.method.as_str().len() + target + "  HTTP/1.1\r\n".len();
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    line + parts.headers.iter().map(header).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(token: usize) -> Parts {
        let request = Request::post("https://localhost:8443/identities?api-version=2023-10-01");
        let token = format!("Bearer {}", "x".repeat(token));
        request
            .header("authorization", token)
            .header("host", "a")
            .header("host", "b")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    #[test]
    fn only_heads_above_the_limit_of_the_gateway_are_reported() {
        let text = "POST /identities?api-version=2023-10-01 HTTP/1.1\r\nauthorization: Bearer \r\nhost: a\r\nhost: b\r\n";
        assert_eq!(size(&head(0)), text.len());
        let most = GATEWAY_LIMIT - text.len();
        assert_eq!(warning(&head(most)), None);
        let warning = warning(&head(most + 1)).unwrap();
        assert!(warning.contains("a POST request have 10241 bytes"), "{warning}");
        assert!(!warning.contains("xxx") && !warning.contains("identities"), "{warning}");
    }
}
