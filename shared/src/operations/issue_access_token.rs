//! `POST /identities/{id}/:issueAccessToken`: a token for an identity that exists.

use super::Request;
use crate::audit::Notes;
use crate::body::TokenRequest;
use crate::error::Error;
use crate::reply::Reply;
use crate::store::IdentityState;

/// One read, no write: the token carries the revision that was read.
pub(super) async fn run(request: &Request<'_>, notes: &mut Notes) -> Result<Reply, Error> {
    let bound = TokenRequest::bind_issue(request.body, request.version)?;
    let identity = request.identity(notes)?;
    let token = bound.judge()?;
    notes.scopes(&token.0);
    let session = request.service.open(request, Some(&identity), true).await?;
    notes.slot(session.slot);
    match session.identity {
        IdentityState::Live(revision) => {
            request.mint(&session, &identity, revision, &token).map(Reply::Issued)
        }
        IdentityState::Absent | IdentityState::Deleted => Err(Error::IdentityNotFound),
    }
}
