//! The command line (section 7 of the contract). A command parses its arguments, calls the library and prints the result.

mod age;
mod aggregate;
mod completions;
mod config;
mod demo;
mod dlq;
mod doctor;
mod failure;
mod migrate;
mod prune;
mod publish;
mod query;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Config;
use crate::terminal::output;
use crate::{logging, service};
use failure::Failure;

/// Release, and the revision that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CNS_EVENTS_BUILT_FROM"), ")");

/// Width of the help, which fits every terminal, also where it is piped.
const HELP_COLUMNS: usize = 80;

/// Stores the events that CNS workflows publish to RabbitMQ once in PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "cns-events", version = VERSION, about, propagate_version = true, arg_required_else_help = true, max_term_width = HELP_COLUMNS)]
#[command(
    after_help = "Configuration: AMQP_URL and DATABASE_URL, or CNS_EVENTS__… for every key that `cns-events config` lists.\n\
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
    /// Run the pending migrations of the database
    Migrate(migrate::Migrate),
    /// Publish events: one from flags, or JSON lines from a file or stdin
    Publish(Box<publish::Publish>),
    /// Publish the workflow of a BOM, every event twice, and report what is stored
    Demo(demo::Demo),
    /// Print stored events: of a BOM, of a workflow, or recent errors
    Query(query::Query),
    /// List, show, replay, purge or export dead letters
    Dlq(Box<dlq::Dlq>),
    /// Delete old events, in small batches
    Prune(prune::Prune),
    /// Keep the summaries of what is stored: counts, stage times, workflows
    Aggregate(aggregate::Aggregate),
    /// Sign a token for the read API
    Token(token::Token),
    /// Check configuration, broker and database, and print a fix for each problem
    Doctor(doctor::Doctor),
    /// Print the effective configuration and the origin of each value, with secrets masked
    Config(config::Show),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Returns the definition of the command line, for its documentation.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Parses the arguments, runs the command and returns its exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) if output::failed() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    if let Command::Completions(command) = &command {
        command.run(&mut Cli::command());
        return Ok(());
    }
    if let Command::Doctor(command) = &command {
        // It reports a configuration that cannot be loaded.
        let config = Config::load();
        return runtime()?.block_on(command.run(config));
    }
    if let Command::Config(command) = &command {
        return command.run(Config::load());
    }
    let config = Config::load()?;
    if let Command::Token(command) = &command {
        return command.run(&config);
    }
    let is_service = match &command {
        Command::Worker | Command::Serve => true,
        Command::Aggregate(command) => command.is_service(),
        _ => false,
    };
    logging::start(&config.log, is_service);
    if is_service {
        logging::warn_of_plain_connections(&config, matches!(command, Command::Worker));
    }
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        match command {
            Command::Worker => service::worker(config).await.map_err(Failure::from),
            Command::Serve => service::serve(config).await.map_err(Failure::from),
            Command::Migrate(command) => command.run(&config).await.map_err(Failure::from),
            Command::Publish(command) => command.run(&config).await,
            Command::Demo(command) => command.run(&config).await,
            Command::Query(command) => command.run(&config).await,
            Command::Dlq(command) => command.run(&config).await,
            Command::Prune(command) => command.run(&config).await,
            Command::Aggregate(command) => command.run(config).await,
            Command::Config(_) | Command::Completions(_) | Command::Doctor(_) | Command::Token(_) => Ok(()),
        }
    });
    // Tasks that are still running have had their time to stop.
    runtime.shutdown_background();
    done
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
