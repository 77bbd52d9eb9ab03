//! The manual page and the shell completions, written from the same descriptions as `--help`.

use std::io;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::output;

/// Print a completion script: source it, or put it where your shell looks for them.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, commands: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, commands, "deadbeat", &mut script);
    output::print(&String::from_utf8_lossy(&script), ExitCode::SUCCESS)
}

/// Prints the manual page: the program's own sections, then each of its commands as one section.
pub(super) fn man(commands: &clap::Command) -> ExitCode {
    match page(commands) {
        Ok(page) => output::print(&String::from_utf8_lossy(&page), ExitCode::SUCCESS),
        Err(error) => output::usage(&error),
    }
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(synopsis(command).as_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let heading = format!(".SH \"DEADBEAT {}\"", command.get_name().to_ascii_uppercase());
        page.extend_from_slice(heading.as_bytes());
        let man = clap_mangen::Man::new(command.clone());
        let mut sections = b"\n".to_vec();
        sections.extend_from_slice(synopsis(command).as_bytes());
        man.render_description_section(&mut sections)?;
        if command.get_arguments().next().is_some() {
            man.render_options_section(&mut sections)?;
        }
        man.render_extra_section(&mut sections)?;
        // The sections of a command are subsections of this page.
        page.extend_from_slice(String::from_utf8_lossy(&sections).replace("\n.SH ", "\n.SS ").as_bytes());
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// The synopsis as clap_mangen writes it, and with the values that options take, which clap_mangen leaves out.
fn synopsis(command: &clap::Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut words = vec![format!("\\fB{}\\fR", roff(name))];
    for option in command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()) {
        let short = option.get_short().map(|letter| format!("\\fB\\-{letter}\\fR"));
        let long = option.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", roff(long)));
        let mut word = [short, long].into_iter().flatten().collect::<Vec<_>>().join("|");
        if option.get_action().takes_values() {
            word += &format!(" {}", value(option));
        }
        words.push(format!("[{word}]"));
    }
    for positional in command.get_positionals() {
        let dots = if positional.get_num_args().is_some_and(|count| count.max_values() > 1) { " ..." } else { "" };
        words.push(format!("{}{dots}", value(positional)));
    }
    if command.has_subcommands() {
        words.push("\\fICOMMAND\\fR".to_owned());
    }
    format!(".SH SYNOPSIS\n{}\n", words.join(" "))
}

fn value(arg: &clap::Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("\\fI{}\\fR", roff(name)));
    names.collect::<Vec<_>>().join(" ")
}

fn roff(text: &str) -> String {
    text.replace('-', "\\-")
}
