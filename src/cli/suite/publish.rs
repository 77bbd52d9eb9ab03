//! Where the report goes: everything is rendered before anything is written, and each file is whole or not there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::adapter::strip_str;
use clap::{Args, ValueEnum};

use crate::cli::output::usage;
use crate::cli::{interrupt, output};
use crate::report::{Report, html, json, junit, markdown, table};

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// How to print the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    format: ReportFormat,
    /// Write the report into this file instead of to stdout, whole or not at all; `-` is stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write a page into this file too, with the timeline of every cell: one file, to be opened in a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Table,
    Json,
    /// XML, as test runners write it
    Junit,
    /// For a pull request or a job's summary
    Markdown,
}

impl Publish {
    /// The first option that makes sense for a report and not for a list.
    pub(super) fn unlistable(&self) -> Option<&'static str> {
        let html = self.html.as_ref().map(|_| "--html");
        html.or(self.output.as_ref().map(|_| "--output")).or((self.format != ReportFormat::Table).then_some("--format"))
    }

    /// The file that the report goes to; `None` for stdout.
    fn output(&self) -> Option<&Path> {
        self.output.as_deref().filter(|file| *file != Path::new("-"))
    }

    /// Whether stderr and the report go to the same place.
    pub(super) fn is_read_with_stderr(&self) -> bool {
        self.output().is_none() && output::streams_are_one()
    }

    /// Checks that every file can be written, before anything runs.
    pub(super) fn check(&self) -> Result<(), String> {
        let files: Vec<&Path> = self.output().into_iter().chain(self.html.as_deref()).collect();
        if let [output, html] = files[..] {
            if output::are_one(output, html) {
                return Err(format!("--output and --html name the same file, {}", html.display()));
            }
        }
        if self.output().is_none() {
            output::check_stdout()?;
        }
        files.into_iter().try_for_each(output::check_writable)
    }

    /// Writes the report. Returns `status` if all of it could be written.
    pub(super) fn publish(&self, report: &Report, status: ExitCode) -> ExitCode {
        let ending = interrupt::hold_off();
        let written = self.render(report).and_then(|(text, page)| {
            let mut targets: Vec<(&Path, String)> = self.html.as_deref().zip(page).into_iter().collect();
            // The table alone has colours. In the other formats what looks like one is text of the report.
            let is_table = self.format == ReportFormat::Table;
            let plain = |text: &str| if is_table { strip_str(text).to_string() } else { text.to_owned() };
            let plain = |file| (file, plain(&text));
            targets.extend(self.output().map(plain));
            let (streams, files): (Vec<_>, Vec<_>) = targets.iter().partition(|(file, _)| output::is_special(file));
            let write = |(file, text): &(&Path, String)| output::write_whole(file, text.as_bytes());
            files.into_iter().try_for_each(write)?;
            // A reader that has stopped reading must not keep Ctrl-C from ending the program.
            drop(ending);
            streams.into_iter().try_for_each(write)?;
            Ok(text)
        });
        match written {
            Ok(text) if self.output().is_none() && self.format == ReportFormat::Table => output::print(&text, status),
            Ok(text) if self.output().is_none() => output::print_as_it_is(&text, status),
            Ok(_) => status,
            Err(error) => usage(&error),
        }
    }

    fn render(&self, report: &Report) -> Result<(String, Option<String>), String> {
        let mut text = String::new();
        let error = |error: &dyn std::fmt::Display| format!("cannot render the report: {error}");
        match self.format {
            ReportFormat::Table => table::write(&mut text, report).map_err(|e| error(&e))?,
            ReportFormat::Json => text = json::to_string(report).map_err(|e| error(&e))?,
            ReportFormat::Junit => text = junit::to_string(report).map_err(|e| error(&e))?,
            ReportFormat::Markdown => markdown::write(&mut text, report).map_err(|e| error(&e))?,
        }
        let page = self.html.as_ref().map(|_| html::to_string(report)).transpose().map_err(|e| error(&e))?;
        Ok((text, page))
    }
}
