//! The parameters of a connection string: those of libpq, and what platforms and other drivers add to them.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding;

use super::UrlError;
use super::info::{ConnInfo, SessionKind};
use super::pairs::Pair;
use super::servers::Server;
use crate::tls::TlsFiles;

/// TCP keepalive and user timeout, unless the URL has its own: time without traffic before the first probe, time between two
/// probes, and maximum time without an acknowledgement.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Parameters without an effect here: they set up another client's pool, cache or way to connect.
const WITHOUT_EFFECT: [&str; 44] = [
    "async_fallback",
    "binary_parameters",
    "charset",
    "checkout_timeout",
    "client_encoding",
    "command_timeout",
    "connection_limit",
    "connectTimeout",
    "echo",
    "encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "idle_timeout",
    "krbsrvname",
    "loginTimeout",
    "max_overflow",
    "max_pool_size",
    "max_protocol_version",
    "min_protocol_version",
    "pool",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conns",
    "pool_min_conns",
    "pool_mode",
    "pool_pre_ping",
    "pool_recycle",
    "pool_size",
    "pool_timeout",
    "prepared_statement_name_func",
    "reaping_frequency",
    "reWriteBatchedInserts",
    "scram_client_key",
    "socket_timeout",
    "socketTimeout",
    "sslcertmode",
    "sslcompression",
    "sslsni",
    "supa",
    "tcpKeepAlive",
    "uselibpqcompat",
    "workaround",
    "wait_timeout",
];

/// Parameters that would have an effect elsewhere, and the fix.
const UNSUPPORTED: [(&str, &str); 12] = [
    ("passfile", FILE),
    ("service", FILE),
    ("servicefile", FILE),
    ("sslpassword", "name an sslkey without a password"),
    ("sslcrl", NO_LIST),
    ("sslcrldir", NO_LIST),
    ("requirepeer", LEAVE_OUT),
    ("require_auth", LEAVE_OUT),
    ("replication", LEAVE_OUT),
    ("ssl_max_protocol_version", TLS),
    ("ssl_min_protocol_version", TLS),
    ("sslkeylogfile", LEAVE_OUT),
];

const FILE: &str = "name a file that holds the whole URL in CNS_EVENTS__DATABASE__URL_FILE";
const NO_LIST: &str = "revocation lists are not read; leave it out";
const LEAVE_OUT: &str = "leave it out";
const TLS: &str = "TLS 1.2 and 1.3 are used; leave it out";

/// Connection that its parameters ask for, as far as they are known.
#[derive(Default)]
pub(super) struct Parameters {
    config: Config,
    tls: TlsFiles,
    /// Set by `sslmode`, which counts more than the words of other drivers.
    mode: Option<bool>,
    /// Set by other drivers' words: encrypted or not.
    encrypted: Option<bool>,
    session: SessionKind,
    /// Servers are tried in a random order.
    pub(super) random: bool,
    timeout: Option<Duration>,
    pooled: bool,
    options: Option<String>,
    search_path: Option<String>,
    has_keepalives: bool,
    has_user_timeout: bool,
}

impl Parameters {
    /// Takes over a parameter.
    pub(super) fn apply(&mut self, pair: &Pair) -> Result<(), UrlError> {
        let (key, value) = (pair.key.as_str(), pair.value.as_str());
        if self.login(key, value)
            || self.encryption(key, value)?
            || self.session(key, value)?
            || self.network(key, value)?
        {
            return Ok(());
        }
        if WITHOUT_EFFECT.contains(&key) {
            return Ok(());
        }
        if let Some((name, fix)) = UNSUPPORTED.iter().find(|(name, _)| *name == key) {
            return Err(UrlError::Unsupported(name, fix));
        }
        Err(UrlError::Unknown(pair.number))
    }

    /// Takes over what the server is told at the login.
    fn login(&mut self, key: &str, value: &str) -> bool {
        match key {
            "host" | "hostaddr" | "port" => {} // lists of their own
            "user" => {
                self.config.user(value);
            }
            "password" => {
                self.config.password(value);
            }
            "dbname" | "database" => {
                self.config.dbname(value);
            }
            "application_name" | "ApplicationName" => {
                self.config.application_name(value);
            }
            "options" => self.options = Some(value.to_owned()),
            // The first one is Prisma's, the second Java's.
            "schema" | "currentSchema" | "search_path" => self.search_path = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    /// Takes over what concerns TLS.
    fn encryption(&mut self, key: &str, value: &str) -> Result<bool, UrlError> {
        match key {
            "sslmode" => self.mode = Some(verified(value)?),
            "ssl" | "requiressl" => self.encrypted = Some(verified(value)?),
            "sslaccept" if value == "strict" => {}
            "sslaccept" => return Err(UrlError::SslMode("an sslaccept other than strict")),
            "sslrootcert" if value == "system" => self.encrypted = Some(true),
            "sslrootcert" => self.tls.roots = Some(value.into()),
            "sslcert" => self.tls.certificate = Some(value.into()),
            "sslkey" => self.tls.key = Some(value.into()),
            "ssl_min_protocol_version" if matches!(value, "TLSv1" | "TLSv1.1" | "TLSv1.2") => {}
            "ssl_max_protocol_version" if value == "TLSv1.3" => {}
            "sslnegotiation" if value == "postgres" => {}
            "sslnegotiation" => return Err(UrlError::Unsupported("sslnegotiation=direct", LEAVE_OUT)),
            "gssencmode" if matches!(value, "disable" | "prefer") => {}
            "gssencmode" => return Err(UrlError::Unsupported("gssencmode", "use sslmode=verify-full")),
            "channel_binding" => {
                let binding = match value {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => return Err(UrlError::Value("channel_binding", "disable, prefer or require")),
                };
                self.config.channel_binding(binding);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes over which server is wanted, and what is between it and this client.
    fn session(&mut self, key: &str, value: &str) -> Result<bool, UrlError> {
        match key {
            "target_session_attrs" => {
                self.session = match value {
                    "any" => SessionKind::Any,
                    "read-write" => SessionKind::ReadWrite,
                    "read-only" => SessionKind::ReadOnly,
                    "primary" => SessionKind::Primary,
                    "standby" => SessionKind::Standby,
                    "prefer-standby" => SessionKind::PreferStandby,
                    _ => {
                        let words = "any, read-write, read-only, primary, standby or prefer-standby";
                        return Err(UrlError::Value("target_session_attrs", words));
                    }
                };
            }
            "load_balance_hosts" => match value {
                "disable" => self.random = false,
                "random" => self.random = true,
                _ => return Err(UrlError::Value("load_balance_hosts", "disable or random")),
            },
            // A pooler in transaction mode: no statement may be prepared.
            "pgbouncer" => self.pooled |= matches!(value, "true" | "1"),
            "statement_cache_size" | "prepared_statement_cache_size" | "prepareThreshold" => {
                self.pooled |= value == "0"
            }
            "prepared_statements" => self.pooled |= value == "false",
            "default_query_exec_mode" => self.pooled |= matches!(value, "exec" | "simple_protocol"),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes over what concerns the network.
    fn network(&mut self, key: &str, value: &str) -> Result<bool, UrlError> {
        let number = |name, wanted| value.parse::<u32>().map_err(|_| UrlError::Value(name, wanted));
        let seconds = |name| {
            Ok::<_, UrlError>(Duration::from_secs(number(name, "a number of seconds, such as 10")?.into()))
        };
        match key {
            // 0 is no limit with libpq; a limit of this program's own holds then.
            "connect_timeout" => {
                self.timeout = Some(seconds("connect_timeout")?).filter(|timeout| !timeout.is_zero());
            }
            "tcp_user_timeout" => {
                let milliseconds = number("tcp_user_timeout", "a number of milliseconds, such as 60000")?;
                self.has_user_timeout = true;
                if milliseconds > 0 {
                    self.config.tcp_user_timeout(Duration::from_millis(milliseconds.into()));
                }
            }
            "keepalives" => {
                self.config.keepalives(number("keepalives", "1 or 0")? != 0);
            }
            "keepalives_idle" => {
                self.config.keepalives_idle(seconds("keepalives_idle")?);
            }
            "keepalives_interval" => {
                self.config.keepalives_interval(seconds("keepalives_interval")?);
            }
            "keepalives_count" | "keepalives_retries" => {
                self.config.keepalives_retries(number("keepalives_count", "a number of probes, such as 3")?);
            }
            _ => return Ok(false),
        }
        self.has_keepalives |= key.starts_with("keepalives");
        Ok(true)
    }

    /// Returns the connection to these servers.
    pub(super) fn finish(mut self, servers: Vec<Server>) -> Result<ConnInfo, UrlError> {
        let encrypted = self.mode.or(self.encrypted).unwrap_or_default();
        if self.tls.any() && !encrypted {
            return Err(UrlError::NoTls);
        }
        // A connection that a firewall has dropped is noticed after a minute instead of two hours.
        if !self.has_keepalives {
            self.config
                .keepalives_idle(KEEPALIVE_IDLE)
                .keepalives_interval(KEEPALIVE_INTERVAL)
                .keepalives_retries(KEEPALIVE_PROBES);
        }
        if !self.has_user_timeout {
            self.config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        if self.config.get_application_name().is_none() {
            self.config.application_name("cns-events");
        }
        // `public` is in the search path anyway; a pooler would refuse the option.
        if let Some(schema) = self.search_path.filter(|schema| schema != "public") {
            let escaped = schema.replace('\\', r"\\").replace(' ', r"\ ");
            let own = self.options.take().unwrap_or_default();
            self.options = Some(format!("{own} -c search_path={escaped}").trim_start().to_owned());
        }
        if let Some(options) = self.options {
            self.config.options(options);
        }
        Ok(ConnInfo {
            config: self.config,
            servers,
            session: self.session,
            tls: encrypted.then_some(self.tls),
            timeout: self.timeout,
            pooled: self.pooled,
        })
    }
}

/// Returns whether a mode encrypts and verifies; no other mode encrypts.
fn verified(mode: &str) -> Result<bool, UrlError> {
    match mode {
        "disable" | "false" | "0" | "off" => Ok(false),
        "require" | "verify-ca" | "verify-full" | "true" | "1" | "on" | "strict" => Ok(true),
        "prefer" => Err(UrlError::SslMode("sslmode=prefer")),
        "allow" => Err(UrlError::SslMode("sslmode=allow")),
        "no-verify" => Err(UrlError::SslMode("sslmode=no-verify")),
        _ => Err(UrlError::Value("sslmode", "verify-full, or disable on a trusted network")),
    }
}
