//! The commands that use a service: the local server or any endpoint.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use acs_identity::client::calls::Call;
use acs_identity::client::{self, Client, local};
use acs_identity::control::{self, Command};
use acs_identity::output::environment::{self, Format};
use acs_identity::output::report::{Form, Report};
use acs_identity::output::{env_file, print, token_page};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use functions::system::System;
use identity::runtime::Clock as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::failure::Failure;

/// The variables with a connection string. The Azure CLI reads the first one, and quickstarts read the second one.
const CONNECTION_VARIABLES: [&str; 2] =
    ["AZURE_COMMUNICATION_CONNECTION_STRING", "COMMUNICATION_SERVICES_CONNECTION_STRING"];

/// The columns of an identity.
const IDENTITY: &[&str] = &["id", "origin", "created", "revision", "state"];

/// The commands about users.
#[derive(Subcommand)]
pub(crate) enum UserAction {
    /// Create a user.
    Create(Remote),
    /// Delete a user. Every token of the user is revoked.
    Delete(UserChange),
    /// List the users of the running local server, the newest first.
    List,
    /// Show a user of the running local server.
    Show {
        /// The raw id, such as 8:acs:….
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
}

/// The commands about access tokens.
#[derive(Subcommand)]
pub(crate) enum TokenAction {
    /// Issue a token. Without --user, this also creates a user.
    Issue {
        /// The scopes of the token: chat, voip, chat.join, chat.join.limited or voip.join.
        #[arg(long = "scope", num_args = 1.., required = true)]
        scopes: Vec<String>,
        /// The raw id of the user, such as 8:acs:….
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        user: Option<String>,
        /// The lifetime in minutes, from 60 to 1440 [default: 1440].
        #[arg(long)]
        minutes: Option<u32>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Revoke every token of a user.
    Revoke(UserChange),
    /// Exchange the Entra token of a Teams user for an access token.
    GetForTeamsUser {
        /// The Entra token of the Teams user; `-` reads it from standard input.
        #[arg(long)]
        aad_token: String,
        /// The client id of the Entra application that the token names.
        #[arg(long)]
        client: String,
        /// The object id of the Teams user.
        #[arg(long)]
        aad_user: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Explain a token: header, claims, scopes, permits, and whether the running server finds it active.
    Inspect {
        /// The token; `-` reads it from standard input.
        token: String,
    },
}

/// A destructive command about one user.
#[derive(Args)]
pub(crate) struct UserChange {
    /// The raw id of the user, such as 8:acs:….
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    user: String,
    /// Do not ask for a confirmation.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    remote: Remote,
}

/// The service of a command.
#[derive(Args)]
pub(crate) struct Remote {
    /// The connection string of the service [default: that of AZURE_COMMUNICATION_CONNECTION_STRING, or of
    /// COMMUNICATION_SERVICES_CONNECTION_STRING, or of the running local server].
    #[arg(long)]
    connection_string: Option<String>,
    /// Print the signed request as a curl command line, and do not send it.
    #[arg(long)]
    curl: bool,
}

/// The local server and the output of a command.
pub(crate) struct Context {
    pub(crate) data_dir: PathBuf,
    /// The form that the user has chosen.
    pub(crate) form: Option<Form>,
}

impl Context {
    pub(crate) async fn user(&self, action: UserAction) -> Result<(), Failure> {
        match action {
            UserAction::Create(remote) => {
                let created = self.call(&remote, &Call::create_user()).await?;
                created.map_or(Ok(()), |answer| {
                    let id = member(&answer, "/identity/id")?;
                    let json = json!({"properties": {"id": id}, "rawId": id});
                    self.print(&Report::single(json, &["user_id"], vec![id]))
                })
            }
            UserAction::Delete(change) => {
                self.change("delete the user", &change, &Call::delete_user(&change.user)).await
            }
            UserAction::List => self.print(&Report::list(self.identities().await?, IDENTITY)),
            UserAction::Show { id } => {
                let mut all = self.identities().await?;
                let list = all.as_array_mut().map(std::mem::take).unwrap_or_default();
                let found = list.into_iter().find(|identity| identity["id"] == *id);
                let found = found.ok_or_else(|| failed(format!("no user has the id {id:?}")))?;
                self.print(&Report::object(found, IDENTITY))
            }
        }
    }

    async fn identities(&self) -> Result<Value, Failure> {
        Ok(control::send(&self.data_dir, &Command::Identities).await?)
    }

    pub(crate) async fn token(&self, action: TokenAction) -> Result<(), Failure> {
        match action {
            TokenAction::Issue { scopes, user, minutes, remote } => {
                let call = match &user {
                    Some(user) => Call::issue_token(user, &scopes, minutes),
                    None => Call::create_user_and_token(&scopes, minutes),
                };
                let Some(answer) = self.call(&remote, &call).await? else { return Ok(()) };
                let (user, token) = match user {
                    Some(user) => (user, Some(&answer)),
                    None => (member(&answer, "/identity/id")?, answer.get("accessToken")),
                };
                let (token, expires_on) = token_of(token.unwrap_or(&Value::Null))?;
                let json = json!({"user_id": user, "token": token, "expires_on": expires_on});
                self.print(&Report::object(json, &["user_id", "token", "expires_on"]))
            }
            TokenAction::Revoke(change) => {
                self.change("revoke every token of", &change, &Call::revoke_tokens(&change.user)).await
            }
            TokenAction::GetForTeamsUser { aad_token, client, aad_user, remote } => {
                let call = Call::exchange_teams_token(&token_argument(aad_token)?, &client, &aad_user);
                let Some(answer) = self.call(&remote, &call).await? else { return Ok(()) };
                let (token, expires_on) = token_of(&answer)?;
                let json = json!({"token": token, "expires_on": expires_on});
                self.print(&Report::object(json, &["token", "expires_on"]))
            }
            TokenAction::Inspect { token } => self.inspect(&token_argument(token)?).await,
        }
    }

    async fn inspect(&self, token: &str) -> Result<(), Failure> {
        let verdict = control::send(&self.data_dir, &Command::Inspect(token.to_owned())).await?;
        match self.form() {
            Form::Table => write(&token_page::page(token, &verdict)),
            Form::Json => write(&format!("{:#}\n", token_page::json(token, &verdict))),
            Form::Tsv | Form::Env => {
                Err(Failure::Usage("token inspect has the forms -o json and -o table".to_owned()))
            }
        }
    }

    /// Prints the variables of the local server.
    pub(crate) fn env(&self, format: Format) -> Result<(), Failure> {
        local::Running::read(&self.data_dir)?;
        let variables = env_file::read(&self.data_dir).map_err(Failure::other)?.unwrap_or_default();
        let lines = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        write(&environment::render(lines, format))
    }

    /// Asks the local server whether it can do its work.
    pub(crate) async fn healthcheck(&self) -> Result<(), Failure> {
        let running = local::Running::read(&self.data_dir).map_err(Failure::other)?;
        let port = running.http_port().ok_or_else(|| failed("the server has no HTTP port".to_owned()))?;
        let url = format!("http://127.0.0.1:{port}/_local/ready");
        let request = HttpRequest::get(&url).map_err(Failure::other)?;
        let answer = client::send(request, &url).await.map_err(Failure::other)?;
        match answer.status {
            200 => write("ready\n"),
            status => Err(failed(format!("not ready: {url} answers with status {status}"))),
        }
    }

    async fn change(&self, what: &str, change: &UserChange, call: &Call) -> Result<(), Failure> {
        if !change.yes && !change.remote.curl {
            confirm(&format!("{what} {}", change.user))?;
        }
        self.call(&change.remote, call).await.map(drop)
    }

    /// Makes a call and returns its answer. With --curl, it prints the request instead and returns `None`.
    async fn call(&self, remote: &Remote, call: &Call) -> Result<Option<Value>, Failure> {
        let client = self.client(remote)?;
        let request = client.sign(call, System::new().now())?;
        if !remote.curl {
            return Ok(Some(client.send(request).await?));
        }
        // The note is not part of the command line.
        let _ = writeln!(io::stderr(), "The signature of this request is valid for some minutes.");
        write(&client.curl(&request)).map(|()| None)
    }

    fn client(&self, remote: &Remote) -> Result<Client, Failure> {
        let option = remote.connection_string.clone();
        let option = option.map(|text| ("--connection-string".to_owned(), Zeroizing::new(text)));
        let given = option.or_else(|| CONNECTION_VARIABLES.into_iter().find_map(variable));
        Ok(local::client(given, &self.data_dir)?)
    }

    pub(super) fn form(&self) -> Form {
        self.form.unwrap_or(if io::stdout().is_terminal() { Form::Table } else { Form::Json })
    }

    pub(super) fn print(&self, report: &Report) -> Result<(), Failure> {
        write(&report.render(self.form()).map_err(|error| Failure::Usage(error.to_string()))?)
    }
}

/// The name and the value of a variable, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the composition root of a command reads its settings")]
fn variable(name: &str) -> Option<(String, Zeroizing<String>)> {
    let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty())?;
    Some((name.to_owned(), Zeroizing::new(value)))
}

fn token_argument(argument: String) -> Result<Zeroizing<String>, Failure> {
    let text = Zeroizing::new(match argument.as_str() {
        "-" => io::read_to_string(io::stdin()).map_err(Failure::other)?,
        _ => argument,
    });
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn member(answer: &Value, pointer: &str) -> Result<String, Failure> {
    let text = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| failed("the answer is not that of an identity service".to_owned()))
}

fn token_of(answer: &Value) -> Result<(String, String), Failure> {
    Ok((member(answer, "/token")?, member(answer, "/expiresOn")?))
}

fn confirm(action: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("give --yes to {action} without a question")));
    }
    let question = format!("Do you want to {action}? (y/n): ");
    io::stderr().write_all(question.as_bytes()).map_err(Failure::other)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Failure::other)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(failed("cancelled".to_owned())),
    }
}

fn failed(message: String) -> Failure {
    Failure::Other(message.into())
}

pub(super) fn write(text: &str) -> Result<(), Failure> {
    print(text).map_err(Failure::other)
}
