//! `cns-events completions`

use clap::Args;
use clap_complete::Shell;

use crate::terminal::output;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Print the script for this shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, definition: &mut clap::Command) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, definition, "cns-events", &mut script);
        let mut script = String::from_utf8_lossy(&script).into_owned();
        if self.shell == Shell::Fish {
            script.extend(definition.get_subcommands().map(fish_values));
        }
        // clap_complete 4.6 writes the hyphen of the program's name in two ways, so that bash finds no subcommand.
        output::line(&script.replace("cns__subcmd__events", "cns__events"));
    }
}

/// Returns the completion of the values of a command's arguments, which `clap_complete` leaves out for fish.
fn fish_values(command: &clap::Command) -> String {
    let values = command.get_positionals().flat_map(clap::Arg::get_possible_values);
    let names = values.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(" ");
    match names.as_str() {
        "" => String::new(),
        names => format!(
            "complete -c cns-events -n \"__fish_cns_events_using_subcommand {}\" -f -a \"{names}\"\n",
            command.get_name()
        ),
    }
}
