//! What `trainshed task` shows of consoles, plots and samples.

use std::path::{Path, PathBuf};

use trainshed_core::media::media_suffix;
use trainshed_core::report::Sample;
use trainshed_core::view::{ConsoleLine, PlotView};
use trainshed_wire::{Client, ConsoleFilter, ShownFilter};

use crate::args::{LogArgs, ShownArgs};
use crate::error::CliError;
use crate::output::{Output, printable, size, time};

/// Lines of one look at a console.
const CONSOLE_PAGE: u64 = 10_000;

/// Prints the console of a task.
pub(crate) async fn logs(
    client: &Client,
    arguments: LogArgs,
    output: &Output,
) -> Result<(), CliError> {
    let id = arguments.id.as_str();
    let filter = ConsoleFilter {
        search: arguments.search,
        level: arguments.level.map(|level| level.name().to_owned()),
        ..ConsoleFilter::default()
    };
    let mut next = 0;
    if let Some(wanted) = arguments.tail {
        let (lines, total) = last_lines(client, id, &filter, Some(wanted)).await?;
        let in_order: Box<dyn Iterator<Item = &ConsoleLine>> = if arguments.reverse {
            Box::new(lines.iter())
        } else {
            Box::new(lines.iter().rev())
        };
        in_order.for_each(|line| print(line, output));
        next = total;
    } else if arguments.reverse {
        let (lines, _) = last_lines(client, id, &filter, None).await?;
        lines.iter().for_each(|line| print(line, output));
        return Ok(());
    }
    if arguments.tail.is_some() && !arguments.follow {
        return Ok(());
    }
    loop {
        let ended = client.task(id).await?.status.has_ended();
        loop {
            let asked = ConsoleFilter {
                after: Some(next),
                limit: Some(CONSOLE_PAGE),
                order: Some("asc"),
                ..filter.clone()
            };
            let page = client.console_by(id, &asked).await?;
            page.lines.iter().for_each(|line| print(line, output));
            next = page.next.unwrap_or(page.total);
            if page.next.is_none() {
                break;
            }
        }
        if !arguments.follow || ended {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}

/// The last `wanted` lines that fit `filter`, the last first, and how many lines there are.
async fn last_lines(
    client: &Client,
    id: &str,
    filter: &ConsoleFilter,
    wanted: Option<u64>,
) -> Result<(Vec<ConsoleLine>, u64), CliError> {
    let mut lines: Vec<ConsoleLine> = Vec::new();
    let (mut before, mut total) = (None, None);
    loop {
        let left = wanted.map_or(CONSOLE_PAGE, |wanted| wanted - lines.len() as u64);
        let asked = ConsoleFilter {
            before,
            limit: Some(left.min(CONSOLE_PAGE)),
            order: Some("desc"),
            ..filter.clone()
        };
        let page = client.console_by(id, &asked).await?;
        lines.extend(page.lines);
        let total = *total.get_or_insert(page.total);
        let is_enough = wanted.is_some_and(|wanted| lines.len() as u64 >= wanted);
        if is_enough || page.next.is_none() {
            return Ok((lines, total));
        }
        before = page.next;
    }
}

fn print(line: &ConsoleLine, output: &Output) {
    if output.is_json() {
        output.line(&serde_json::to_string(line).expect("a line is texts and numbers"));
    } else {
        output.line(&printable(&line.text));
    }
}

/// Lists the plots of a task, and writes their figures into a folder where that is asked for.
pub(crate) async fn plots(
    client: &Client,
    arguments: ShownArgs,
    output: &Output,
) -> Result<(), CliError> {
    let mut filter = filter(&arguments);
    let mut plots: Vec<PlotView> = Vec::new();
    loop {
        let figures = arguments.save.is_some();
        let page = client.plots_by(&arguments.id, &filter, figures).await?;
        for mut plot in page.items {
            if let (Some(folder), Some(figure)) = (&arguments.save, plot.figure.take()) {
                let name = file_name(&plot.title, &plot.series, plot.iteration, "", "json");
                write(folder, &name, figure.as_bytes())?;
            }
            plots.push(plot);
        }
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let rows = plots.iter().map(|plot| {
        vec![
            plot.title.clone(),
            plot.series.clone(),
            plot.iteration.to_string(),
            size(plot.size_bytes),
            time(plot.at),
        ]
    });
    let rows = rows.collect();
    output.list(
        &plots,
        &["TITLE", "SERIES", "ITERATION", "SIZE", "AT"],
        rows,
    );
    Ok(())
}

/// Lists the samples of a task, and downloads them into a folder where that is asked for.
pub(crate) async fn samples(
    client: &Client,
    arguments: ShownArgs,
    output: &Output,
) -> Result<(), CliError> {
    let mut filter = filter(&arguments);
    let mut samples: Vec<Sample> = Vec::new();
    loop {
        let page = client.samples_by(&arguments.id, &filter).await?;
        samples.extend(page.samples);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    if let Some(folder) = &arguments.save {
        make(folder)?;
        for sample in &samples {
            // Of a link there is nothing but its address, which is in the list.
            let Some(sha256) = &sample.sha256 else {
                continue;
            };
            let suffix = media_suffix(&sample.content_type);
            let (title, series) = (&sample.category, &sample.group);
            let name = file_name(title, series, sample.index, &sample.name, suffix);
            client.download(sha256, &folder.join(name)).await?;
        }
    }
    let rows = samples.iter().map(|sample| {
        vec![
            sample.category.clone(),
            sample.group.clone(),
            sample.index.to_string(),
            sample.content_type.clone(),
            size(sample.size_bytes),
            time(sample.at),
            sample.uri.clone().unwrap_or_default(),
        ]
    });
    let rows = rows.collect();
    let header = [
        "TITLE",
        "SERIES",
        "ITERATION",
        "TYPE",
        "SIZE",
        "AT",
        "ADDRESS",
    ];
    output.list(&samples, &header, rows);
    Ok(())
}

fn filter(arguments: &ShownArgs) -> ShownFilter {
    ShownFilter {
        title: arguments.title.clone(),
        series: arguments.series.clone(),
        iteration: arguments.iteration,
        last: arguments.last,
        after: None,
    }
}

/// The name of a file that nothing outside can steer: `title-series-000000012.json`. What
/// makes names that would be one differ is their digest.
fn file_name(title: &str, series: &str, iteration: u64, name: &str, suffix: &str) -> String {
    let mut file = String::new();
    let mut is_plain = true;
    for part in [title, series, name] {
        if part.is_empty() {
            continue;
        }
        if !file.is_empty() {
            file.push('-');
        }
        for letter in part.chars().take(60) {
            let kept = letter.is_ascii_alphanumeric() || letter == '_';
            is_plain &= kept;
            file.push(if kept { letter } else { '_' });
        }
        is_plain &= part.chars().nth(60).is_none();
    }
    if !is_plain {
        let whole = format!("{title}\0{series}\0{name}");
        let digest = trainshed_core::Digest::of(whole.as_bytes()).to_string();
        file = format!("{file}-{}", &digest[..8]);
    }
    format!("{file}-{iteration:09}.{suffix}")
}

fn make(folder: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))
}

fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), CliError> {
    make(folder)?;
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, content).map_err(|error| failed(&path, error))
}

fn failed(path: &Path, source: std::io::Error) -> CliError {
    CliError::File {
        path: path.to_owned(),
        verb: "written",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_cannot_leave_its_folder() {
        assert_eq!(
            file_name("train", "loss", 3, "", "json"),
            "train-loss-000000003.json"
        );
        let steered = file_name("../..", "/etc/passwd", 0, "x y", "html");
        assert!(!steered.contains(['/', '.', ' ']) || steered.ends_with(".html"));
        assert!(!steered.contains('/') && !steered.contains(".."));
        assert_ne!(
            file_name("a/b", "c", 0, "", "json"),
            file_name("a_b", "c", 0, "", "json")
        );
    }
}
