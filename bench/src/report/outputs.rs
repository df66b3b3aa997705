//! The files of a run. They are made before the load starts, so that a wrong path costs no measurement, and each that fails is
//! named.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::schema::Report;
use super::{Slice, hgrm, histogram, hlog, html, table};
use crate::exit::{Exit, Failure};
use crate::load::Options;

/// See the module. By default there are none.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    json: Option<Output>,
    hgrm: Option<Output>,
    hlog: Option<Output>,
    html: Option<Output>,
    samples: Option<Output>,
    /// They could not be written; told when everything else is.
    samples_lost: Option<Failure>,
}

#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
}

fn lost(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::ReportLost, format!("cannot write the report to {}: {error}", path.display()))
}

impl Output {
    fn create(path: Option<&PathBuf>) -> Result<Option<Output>, Failure> {
        let Some(path) = path.filter(|path| !is_stdout(path)) else { return Ok(None) };
        let file = File::create(path).map_err(|error| lost(path, &error))?;
        Ok(Some(Output { path: path.clone(), file: BufWriter::new(file) }))
    }

    fn write(&mut self, f: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
        f(&mut self.file).map_err(|error| lost(&self.path, &error))
    }

    /// Everything has left this process.
    fn finish(mut self, f: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
        self.write(f)?;
        self.write(Write::flush)
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Outputs {
    /// Makes the files that were asked for.
    ///
    /// # Errors
    ///
    /// The first that cannot be made.
    pub(crate) fn create(options: &Options) -> Result<Outputs, Failure> {
        Ok(Outputs {
            json: Output::create(options.json.as_ref())?,
            hgrm: Output::create(options.hgrm.as_ref())?,
            hlog: Output::create(options.hlog.as_ref())?,
            html: Output::create(options.html.as_ref())?,
            samples: Output::create(options.samples.as_ref())?,
            samples_lost: None,
        })
    }

    /// The measured time begins.
    pub(crate) fn begin(&mut self, started_unix_s: f64) -> Result<(), Failure> {
        match &mut self.hlog {
            Some(output) => output.write(|out| hlog::write_head(out, started_unix_s)),
            None => Ok(()),
        }
    }

    /// An interval of it is over.
    pub(crate) fn interval(&mut self, slice: &Slice) -> Result<(), Failure> {
        match &mut self.hlog {
            Some(output) => output.write(|out| hlog::write_interval(out, slice)),
            None => Ok(()),
        }
    }

    /// The load is over: its requests one by one.
    pub(crate) fn samples(&mut self, f: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if let Some(output) = self.samples.take() {
            self.samples_lost = output.finish(f).err();
        }
    }

    /// The run is over. Everything is written before the first failure is told, so that a full disk costs one report only.
    ///
    /// # Errors
    ///
    /// The first that could not be written.
    pub(crate) fn write(self, report: &Report, options: &Options) -> Result<(), Failure> {
        let to_json = |out: &mut dyn Write| -> io::Result<()> {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)
        };
        let stdout = |text: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            let mut out = io::stdout().lock();
            text(&mut out)
                .and_then(|()| out.flush())
                .map_err(|error| lost(Path::new("standard output"), &error))
        };
        let said = if options.json.as_deref().is_some_and(is_stdout) {
            stdout(&to_json)
        } else {
            let text = table::render(report, options.latency);
            stdout(&|out| out.write_all(text.as_bytes()))
        };
        let json = self.json.map_or(Ok(()), |output| output.finish(|out| to_json(out)));
        let hgrm = self.hgrm.map_or(Ok(()), |output| {
            let whole =
                histogram::decode(&report.response_time.histogram).unwrap_or_else(|_| histogram::empty());
            output.finish(|out| hgrm::write(out, &whole))
        });
        let hlog = self.hlog.map_or(Ok(()), |output| output.finish(|_| Ok(())));
        let html = self
            .html
            .map_or(Ok(()), |output| output.finish(|out| out.write_all(html::run::html(report).as_bytes())));
        said.and(json).and(hgrm).and(hlog).and(html).and(self.samples_lost.map_or(Ok(()), Err))
    }
}
