//! `GET /revocations`: the ends of tokens after a cursor, for resource servers that verify offline or keep connections open.

use std::time::Duration;

use super::OperationContext;
use super::state::Purpose;
use crate::api::error::{Error, Field};
use crate::api::reply::{Reply, RevocationsBody};
use crate::api::routes::{AFTER, WAIT};
use crate::audit::AuditContext;
use crate::authn::Caller;
use crate::lifetime::{FEED_PAUSE, LONGEST_FEED_WAIT};
use crate::store::ReadRequest;
use crate::store::feed::{Cursor, FeedPage};

/// Longest `wait`, in seconds. The service answers earlier, after [`LONGEST_FEED_WAIT`].
const MAX_WAIT: u64 = 20;

/// Without a cursor, the reply has the cursor of now. With one, it has the ends after it. If there is none, the reply waits
/// for one.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let parameters = parameters(context);
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(error) => return Err(service.after_credential(context.caller, error, audit).await),
    };
    context.read_state(ReadRequest::POINTER, Purpose::Other).await?;
    if let Caller::ResourceServer(presented) = context.caller {
        audit.resource_server(&presented.id);
    }
    let (after, wait) = parameters;
    let Some(after) = after else {
        let cursor = service.feed.feed_head().await?;
        return Ok(Reply::Revocations(RevocationsBody { ends: Vec::new(), cursor }));
    };
    let begin = service.clock.uptime();
    let mut pauses = wait.as_millis() / FEED_PAUSE.as_millis();
    loop {
        let (ends, cursor) = match service.feed.read_feed(after).await? {
            FeedPage::Ends { ends, cursor } => (ends, cursor),
            FeedPage::UnknownCursor => return Err(Error::CursorUnknown),
        };
        // Slow reads shorten the wait, so that the reply comes before the deadline of the request.
        let is_late = service.clock.uptime().saturating_sub(begin) >= wait;
        if !ends.is_empty() || pauses == 0 || is_late {
            return Ok(Reply::Revocations(RevocationsBody { ends, cursor }));
        }
        pauses -= 1;
        service.clock.sleep(FEED_PAUSE).await;
    }
}

/// The cursor, and the wait for the next end.
fn parameters(context: &OperationContext<'_>) -> Result<(Option<Cursor>, Duration), Error> {
    let after = context.single(AFTER, Field::After)?;
    let after = after.map(|text| text.parse().map_err(|_| Error::FieldFormat(Field::After)));
    let wait = context.single(WAIT, Field::Wait)?.map(|text| {
        let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_WAIT);
        seconds.ok_or(Error::FieldValue(Field::Wait, "an integer from 0 to 20"))
    });
    let wait = Duration::from_secs(wait.transpose()?.unwrap_or_default());
    Ok((after.transpose()?, wait.min(LONGEST_FEED_WAIT)))
}
