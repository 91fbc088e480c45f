//! `cns-events token`

use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use super::age;
use super::failure::Failure;
use crate::api::{self, Holder};
use crate::config::Config;
use crate::terminal::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Signs with api.jwt_secret (HS256), and prints the token alone. Whoever has it reads with it until it expires."
)]
pub(super) struct Token {
    #[command(flatten)]
    holder: HolderArgs,
    /// Time until it expires (30m, 8h, 7d)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// Subject, which the log names for reads of support staff
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct HolderArgs {
    /// Sign a token of this tenant
    #[arg(long, value_name = "UUID")]
    tenant: Option<Uuid>,
    /// Sign a token of support staff, which reads the summaries of all tenants
    #[arg(long)]
    support: bool,
}

impl Token {
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let holder = self.holder.tenant.map_or(Holder::Support, Holder::Tenant);
        let token = api::sign(&config.api, holder, self.sub.as_deref(), self.ttl);
        output::line(&token.map_err(|error| Failure::Config(error.to_string()))?);
        Ok(())
    }
}

/// Parses a time of at least a second: a token names whole ones.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = age::parse(text)?;
    if lifetime.as_secs() == 0 { Err("is shorter than a second".to_owned()) } else { Ok(lifetime) }
}
