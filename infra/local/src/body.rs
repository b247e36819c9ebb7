//! The body of a request: read within the limits of one body and of all bodies.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use identity::api::pipeline::Body;

use crate::connections::{BodyMemory, OpenConnections};

/// Most bytes of a refused body that are read before the refusal. A client that is still writing would otherwise find a
/// closed connection instead of the answer.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// The client stopped sending the body, or took too long. The connection ends, because there is no whole request.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not arrive")]
pub(crate) struct BrokenBody;

/// Reads a body, and keeps at most `limit` bytes in this memory. Without memory it keeps no bytes.
pub(crate) async fn read<'a>(
    mut body: Incoming,
    limit: usize,
    mut memory: Option<(&'a OpenConnections, &mut BodyMemory<'a>)>,
) -> Result<Body, BrokenBody> {
    let (mut kept, mut length, mut has_memory) = (Vec::new(), 0_usize, true);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BrokenBody)?.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > MAX_DISCARDED {
            break;
        }
        let Some((open, memory)) = memory.as_mut().filter(|_| has_memory) else { continue };
        if length <= limit && open.extend(memory, data.len()).await {
            kept.extend_from_slice(&data);
        } else {
            (kept, has_memory) = (Vec::new(), length > limit);
            **memory = BodyMemory::default();
        }
    }
    Ok(match has_memory {
        _ if length > limit => Body::TooLarge,
        true => Body::Complete(kept.into()),
        false => Body::NoMemory,
    })
}
