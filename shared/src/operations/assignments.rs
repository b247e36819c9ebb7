//! `/access/.../assignments`: which Entra principals may have tokens (docs/wire-contract.md#access-routes).
//! The bodies are those of docs/wire-contract.md#schemas, and the statuses are those of
//! docs/wire-contract.md#success.

use uuid::Uuid;

use super::OperationContext;
use super::state::Purpose;
use crate::api::body::AssignmentRequest;
use crate::api::error::{Error, Field};
use crate::api::reply::{AssignmentsBody, Reply};
use crate::api::routes::{OBJECT, TENANT};
use crate::ids::guid;
use crate::store::assignments::{Assignment, Book, BookName, MAX_ENTRIES};
use crate::store::{BookChange, ReadRequest};

/// How often a change is repeated when another came in between.
const ATTEMPTS: usize = 5;

pub(super) async fn get(context: &OperationContext<'_>, name: BookName) -> Result<Reply, Error> {
    let (tenant, object) = named(context, name)?;
    let book = read(context, name).await?;
    let found = book.find(tenant, object).cloned().ok_or(Error::AssignmentNotFound)?;
    Ok(Reply::Assignment { body: found, is_new: false })
}

pub(super) async fn list(context: &OperationContext<'_>) -> Result<Reply, Error> {
    let book = read(context, BookName::Entra).await?;
    Ok(Reply::Assignments(AssignmentsBody { value: book.entries }))
}

pub(super) async fn put(context: &OperationContext<'_>, name: BookName) -> Result<Reply, Error> {
    let body = AssignmentRequest::bind(context.body, name)?;
    let (tenant, object) = named(context, name)?;
    let tenant = tenant.or(body.tenant).ok_or(Error::FieldRequired(Field::TenantId))?;
    let assignment = entry(tenant, object, body);
    let replaced = change(context, name, |book| book.put(assignment.clone())).await?;
    Ok(Reply::Assignment { body: assignment, is_new: !replaced })
}

/// Idempotent: what is not assigned is already gone.
pub(super) async fn delete(context: &OperationContext<'_>, name: BookName) -> Result<Reply, Error> {
    let (tenant, object) = named(context, name)?;
    change(context, name, |book| book.remove(tenant, object)).await?;
    Ok(Reply::Done)
}

/// All or nothing. Answers the whole book.
pub(super) async fn update(context: &OperationContext<'_>) -> Result<Reply, Error> {
    const NAME: BookName = BookName::Entra;
    let mut changes = Vec::new();
    for (object, body) in AssignmentRequest::bind_many(context.body, NAME)? {
        let assignment = match body {
            Some(body) => {
                let tenant = body.tenant.ok_or(Error::FieldRequired(Field::TenantId))?;
                Some(entry(tenant, object, body))
            }
            None => None,
        };
        changes.push((object, assignment));
    }
    let entries = change(context, NAME, |book| {
        for (object, assignment) in &changes {
            match assignment {
                Some(assignment) => book.put(assignment.clone()),
                None => book.remove(None, *object),
            };
        }
        book.entries.clone()
    });
    Ok(Reply::Assignments(AssignmentsBody { value: entries.await? }))
}

fn entry(tenant_id: Uuid, object_id: Uuid, body: AssignmentRequest) -> Assignment {
    let AssignmentRequest { principal_type, client_ids, .. } = body;
    Assignment { object_id, tenant_id, principal_type, client_ids }
}

/// The tenant, where the path names one, and the object.
fn named(context: &OperationContext<'_>, name: BookName) -> Result<(Option<Uuid>, Uuid), Error> {
    let tenant = match name {
        BookName::Entra => None,
        BookName::TeamsExtension => {
            let tenant = guid(context.parameters.get(TENANT));
            Some(tenant.map_err(|_| Error::FieldFormat(Field::TenantId))?)
        }
    };
    let object = guid(context.parameters.get(OBJECT)).map_err(|_| Error::FieldFormat(Field::ObjectId))?;
    Ok((tenant, object))
}

async fn read(context: &OperationContext<'_>, name: BookName) -> Result<Book, Error> {
    Ok(context.read_state(ReadRequest::book(name), Purpose::Other).await?.book)
}

async fn change<T>(
    context: &OperationContext<'_>,
    name: BookName,
    mut act: impl FnMut(&mut Book) -> T,
) -> Result<T, Error> {
    for _ in 0..ATTEMPTS {
        let before = read(context, name).await?;
        let mut book = before.clone();
        let answer = act(&mut book);
        if book.entries.len() > MAX_ENTRIES {
            return Err(Error::BodyMalformed(format!("there would be more than {MAX_ENTRIES} assignments")));
        }
        if book == before || context.service.store.write_book(name, &book).await? == BookChange::Changed {
            return Ok(answer);
        }
    }
    Err(Error::Unavailable("the assignments keep changing".into()))
}
