//! `/access/.../assignments`: the Entra principals that may have tokens (docs/wire-contract.md#access-routes). The
//! bodies are in docs/wire-contract.md#schemas, the statuses in docs/wire-contract.md#success, and the reasons in
//! decision record 0012.
//!
//! A change is one read and one conditional write. It is not repeated after a conflict, because the caller may have
//! given up and a newer change may have come first. The answer is then 503, and the caller repeats the request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::OperationContext;
use super::state::Purpose;
use crate::api::body::AssignmentRequest;
use crate::api::error::{Error, Field};
use crate::api::reply::{AssignmentsBody, Reply};
use crate::api::routes::{CONTINUATION_TOKEN, MAX_PAGE_SIZE_PARAMETER, OBJECT, TENANT};
use crate::ids::guid;
use crate::store::ReadRequest;
use crate::store::assignments::{
    Assignment, AssignmentChange, AssignmentKey, AssignmentKind, AssignmentRecord, AssignmentVersion,
    AssignmentWriteOutcome, MAX_PAGE_SIZE,
};

pub(super) async fn get(context: &OperationContext<'_>, kind: AssignmentKind) -> Result<Reply, Error> {
    let [record] = read(context, [key(context, kind)?]).await?;
    let found = record.assignments.into_iter().next().ok_or(Error::AssignmentNotFound)?;
    Ok(Reply::Assignment { body: found, is_new: false })
}

pub(super) async fn put(context: &OperationContext<'_>, kind: AssignmentKind) -> Result<Reply, Error> {
    let body = AssignmentRequest::bind(context.body, kind)?;
    let key = key(context, kind)?;
    let assignment = assignment(key, body)?;
    let [record] = read(context, [key]).await?;
    change(context, &[change_of(context, key, &record, Some(assignment.clone()))]).await?;
    Ok(Reply::Assignment { body: assignment, is_new: record.assignments.is_empty() })
}

/// Idempotent. It writes also if there is no assignment, so that no earlier attempt can make it afterwards.
pub(super) async fn delete(context: &OperationContext<'_>, kind: AssignmentKind) -> Result<Reply, Error> {
    let key = key(context, kind)?;
    let [record] = read(context, [key]).await?;
    change(context, &[change_of(context, key, &record, None)]).await?;
    Ok(Reply::Done)
}

/// Makes all the changes or none. Answers the first page of the list.
pub(super) async fn update(context: &OperationContext<'_>) -> Result<Reply, Error> {
    let requested = AssignmentRequest::bind_many(context.body, AssignmentKind::Entra)?;
    let keys: Vec<_> = requested.keys().map(|object| AssignmentKey::Entra { object: *object }).collect();
    let state = context.read_state(ReadRequest::assignments(&keys), Purpose::Other).await?;
    let mut changes = Vec::with_capacity(keys.len());
    for ((key, record), body) in keys.into_iter().zip(&state.assignments).zip(requested.into_values()) {
        let assignment = body.map(|body| assignment(key, body)).transpose()?;
        changes.push(change_of(context, key, record, assignment));
    }
    if !changes.is_empty() {
        change(context, &changes).await?;
    }
    page(context, PageRequest::FIRST).await
}

pub(super) async fn list(context: &OperationContext<'_>) -> Result<Reply, Error> {
    let request = PageRequest::of(context)?;
    context.read_state(ReadRequest::POINTER, Purpose::Other).await?;
    page(context, request).await
}

/// The requested part of the list.
struct PageRequest {
    /// The object id after which the page begins.
    after: Option<Uuid>,
    /// The largest number of records, if the caller gave one.
    size: Option<usize>,
}

impl PageRequest {
    const FIRST: Self = Self { after: None, size: None };

    fn of(context: &OperationContext<'_>) -> Result<Self, Error> {
        let after = context.single(CONTINUATION_TOKEN, Field::ContinuationToken)?;
        let after = after.map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.map(Uuid::from_bytes).ok_or(Error::FieldFormat(Field::ContinuationToken))
        });
        let size = context.single(MAX_PAGE_SIZE_PARAMETER, Field::MaxPageSize)?;
        let size = size.map(|digits| {
            let size = digits.parse().ok().filter(|size| (1..=MAX_PAGE_SIZE).contains(size));
            size.ok_or(Error::FieldValue(Field::MaxPageSize, "an integer from 1 to 1000"))
        });
        Ok(Self { after: after.transpose()?, size: size.transpose()? })
    }
}

async fn page(context: &OperationContext<'_>, request: PageRequest) -> Result<Reply, Error> {
    let limit = request.size.unwrap_or(MAX_PAGE_SIZE);
    let page = context.service.store.list_entra_assignments(request.after, limit).await?;
    let next_link = match page.next {
        Some(next) => Some(next_link(context, next, request.size)?),
        None => None,
    };
    Ok(Reply::Assignments(AssignmentsBody { value: page.assignments, next_link }))
}

/// The URL of the next page. All its characters are unreserved ones, so every client signs the same text.
fn next_link(context: &OperationContext<'_>, after: Uuid, size: Option<usize>) -> Result<String, Error> {
    let (host, version) = (context.service.settings.hosts.public(), context.version()?);
    let token = URL_SAFE_NO_PAD.encode(after.as_bytes());
    let size = size.map(|size| format!("&{MAX_PAGE_SIZE_PARAMETER}={size}")).unwrap_or_default();
    Ok(format!(
        "https://{host}/access/entra/assignments?api-version={version}&{CONTINUATION_TOKEN}={token}{size}"
    ))
}

/// The key that the path names.
fn key(context: &OperationContext<'_>, kind: AssignmentKind) -> Result<AssignmentKey, Error> {
    let parameter = |name, field| guid(context.parameters.get(name)).map_err(|_| Error::FieldFormat(field));
    match kind {
        AssignmentKind::Entra => Ok(AssignmentKey::Entra { object: parameter(OBJECT, Field::ObjectId)? }),
        AssignmentKind::TeamsExtension => {
            let tenant = parameter(TENANT, Field::TenantId)?;
            Ok(AssignmentKey::TeamsExtension { object: parameter(OBJECT, Field::ObjectId)?, tenant })
        }
    }
}

/// The assignment of a key. The tenant is in the path or in the body.
fn assignment(key: AssignmentKey, body: AssignmentRequest) -> Result<Assignment, Error> {
    let AssignmentRequest { tenant, principal_type, client_ids } = body;
    let (object_id, tenant_id) = match key {
        AssignmentKey::Entra { object } => (object, tenant.ok_or(Error::FieldRequired(Field::TenantId))?),
        AssignmentKey::TeamsExtension { object, tenant } => (object, tenant),
    };
    Ok(Assignment { object_id, tenant_id, principal_type, client_ids })
}

async fn read(
    context: &OperationContext<'_>,
    keys: [AssignmentKey; 1],
) -> Result<[AssignmentRecord; 1], Error> {
    let state = context.read_state(ReadRequest::assignments(&keys), Purpose::Other).await?;
    state.assignments.try_into().map_err(|_| Error::Internal("a read without its record"))
}

/// The change of a record that was read.
fn change_of(
    context: &OperationContext<'_>,
    key: AssignmentKey,
    record: &AssignmentRecord,
    assignment: Option<Assignment>,
) -> AssignmentChange {
    let version = AssignmentVersion::random(context.service.random.as_ref());
    AssignmentChange { key, read_version: record.version, version, assignment }
}

async fn change(context: &OperationContext<'_>, changes: &[AssignmentChange]) -> Result<(), Error> {
    match context.service.store.change_assignments(changes, context.service.clock.now()).await? {
        AssignmentWriteOutcome::Changed => Ok(()),
        AssignmentWriteOutcome::Conflict => {
            Err(Error::Unavailable("another change of the assignment came first".into()))
        }
    }
}
