//! The command line: section 7 of the contract.

mod completions;
mod config;
mod demo;
mod dlq;
mod doctor;
mod logs;
mod migrate;
mod output;
mod process;
mod prune;
mod publish;
mod query;
mod serve;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};
use crate::store::DatabaseEndpoint;
use crate::store::read::Reader;

/// A configuration error, as sysexits(3) numbers it.
const EXIT_CONFIG: u8 = 78;

/// The release and the revision that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CNS_EVENTS_BUILT_FROM"), ")");

/// Every event that CNS workflows publish to RabbitMQ, stored once in PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "cns-events", version = VERSION, about, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Configuration: AMQP_URL and DATABASE_URL, or CNS_EVENTS__… for every key that `cns-events config` shows.\n\
    Exit codes: 0 done, 1 failed, 2 usage, 78 configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consume the queue and store its events, until SIGTERM or Ctrl-C
    Worker,
    /// Serve the read API over HTTP, until SIGTERM or Ctrl-C
    Serve,
    /// Bring the database's schema up to date
    Migrate(migrate::Migrate),
    /// Publish events: one from flags, or JSON lines from a file or stdin
    Publish(Box<publish::Publish>),
    /// Publish a whole BOM's workflow, every event twice, and watch it being stored
    Demo(demo::Demo),
    /// Show stored events: of a BOM, of a workflow, or the errors of late
    Query(query::Query),
    /// Look at dead letters, replay or purge them
    Dlq(Box<dlq::Dlq>),
    /// Delete events that are older than an age, in small batches
    Prune(prune::Prune),
    /// Check configuration, broker and database, and say what mends what is wrong
    Doctor(doctor::Doctor),
    /// Show the effective configuration, secrets masked, and where each value comes from
    Config(config::Show),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Why a command did not do what it was asked to.
enum Failure {
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 1; what went wrong is on the screen already.
    Said,
    /// Exit code 78.
    Config(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error.to_string())
    }
}

/// Parses the arguments, runs the command, and says how it ended.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) if output::failed() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::FAILURE,
        Err(Failure::Failed(error)) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
        Err(Failure::Config(problems)) => {
            output::complain(&format!("the configuration cannot be used:\n{problems}"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    if let Command::Completions(command) = &command {
        command.run();
        return Ok(());
    }
    if let Command::Doctor(command) = &command {
        // It has to say something also where the configuration cannot be read.
        let config = Config::load();
        return runtime()?.block_on(command.run(config));
    }
    let config = Config::load()?;
    if let Command::Config(command) = &command {
        return Ok(command.run(&config)?);
    }
    logs::start(&config.log, matches!(command, Command::Worker | Command::Serve));
    if matches!(command, Command::Worker | Command::Serve) {
        logs::warn_of_plain_connections(&config, matches!(command, Command::Worker));
    }
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        match command {
            Command::Worker => worker::run(config).await,
            Command::Serve => serve::run(config).await,
            Command::Migrate(command) => command.run(&config).await.map_err(Failure::from),
            Command::Publish(command) => command.run(&config).await,
            Command::Demo(command) => command.run(&config).await,
            Command::Query(command) => command.run(&config).await,
            Command::Dlq(command) => command.run(&config).await,
            Command::Prune(command) => command.run(&config).await,
            Command::Config(_) | Command::Completions(_) | Command::Doctor(_) => Ok(()),
        }
    });
    // What is still running in the background has had its time.
    runtime.shutdown_background();
    done
}

/// Ends the process: what was asked for cannot be.
fn usage(problem: impl std::fmt::Display) -> ! {
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{problem}\n")).exit()
}

/// What reads the table: a command asks one thing at a time.
fn reader(config: &Config) -> anyhow::Result<Reader> {
    let database = DatabaseEndpoint::from_url(config.database.url.expose())?;
    Ok(Reader::new(database, 1, config.database.statement_timeout()))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
