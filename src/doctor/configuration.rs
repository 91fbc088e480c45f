//! Checks of the configuration. A value that cannot work is refused when the configuration is loaded; these find values that
//! work badly.

use super::report::Report;
use super::service::Service;
use crate::api::Keys;
use crate::config::Config;

pub(super) fn check(report: &mut Report, config: &Config, service: Service) {
    let changed = config.settings.iter().filter(|setting| setting.origin != "default").count();
    report.ok("configuration", format!("{changed} of {} keys are set", config.settings.len()));
    match service {
        Service::Worker => prefetch(report, config),
        Service::Serve => keys(report, config),
    }
}

fn keys(report: &mut Report, config: &Config) {
    match Keys::load(&config.api) {
        Err(error) => report.wrong("keys", error.to_string(), "set the key as the line says"),
        Ok(_) => report.ok("keys", "tokens can be verified"),
    }
}

fn prefetch(report: &mut Report, config: &Config) {
    let (prefetch, batch) = (usize::from(config.worker.prefetch), config.worker.batch_size);
    if prefetch < 2 * batch {
        report.warning(
            "prefetch",
            format!("{prefetch} messages for batches of {batch}: the next batch cannot fill during a commit"),
            format!("worker.prefetch = {}", 2 * batch),
        );
    } else {
        report.ok("prefetch", format!("{prefetch} messages for batches of {batch}"));
    }
}
