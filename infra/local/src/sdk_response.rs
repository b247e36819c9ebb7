//! The responses of the embedded services to an SDK client.

use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

/// A response that is complete.
pub(crate) fn ready(status: u16, content_type: &'static str, body: String) -> HttpConnectorFuture {
    let response = StatusCode::try_from(status).map(|status| {
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        response.headers_mut().insert("content-type", content_type);
        response
    });
    HttpConnectorFuture::ready(response.map_err(|error| ConnectorError::other(Box::new(error), None)))
}
