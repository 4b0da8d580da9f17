//! The memory forecast as text.

use crate::{output, units};
use automodel::{ContextForecast, Fit, LoadForecast, MemoryForecast};

const EVICTING: &str = " ~";
const TOO_LARGE: &str = " !";

/// The forecast as a table, with notes on its marks.
pub fn forecast_table(device: &str, forecast: &MemoryForecast) -> String {
    let sequences = match forecast.batch_size {
        1 => "one sequence".to_owned(),
        many => format!("{many} sequences"),
    };
    let memory = forecast.memory.map_or_else(|| "available memory unknown".to_owned(), |memory| memory.to_string());
    let mut text = format!("Memory on {device}, {sequences}: {memory}\n\n");
    let columns = Columns::of(forecast);
    let rows: Vec<Vec<String>> = std::iter::once(columns.header(forecast))
        .chain(forecast.loads.iter().map(|load| columns.row(forecast, load)))
        .collect();
    let last = rows.first().map_or(0, Vec::len).saturating_sub(1);
    text.push_str(&output::table(&rows, &(1..last).collect::<Vec<_>>()));
    text.push('\n');
    notes(forecast).iter().for_each(|note| text.push_str(&format!("{note}\n")));
    text
}

/// Optional columns.
struct Columns {
    quantized: bool,
    mapped: bool,
    marks: bool,
}

impl Columns {
    fn of(forecast: &MemoryForecast) -> Self {
        let any = |has: &dyn Fn(&LoadForecast) -> bool| forecast.loads.iter().any(has);
        Self {
            quantized: any(&|load| load.quantized_bytes > 0),
            mapped: any(&|load| load.mapped_bytes > 0),
            marks: any(&|load| fits(load).any(|fit| !mark(fit).trim().is_empty())),
        }
    }

    fn header(&self, forecast: &MemoryForecast) -> Vec<String> {
        let mut cells = vec!["load as".to_owned(), "weights".to_owned()];
        cells.extend(self.quantized.then(|| "4-bit".to_owned()));
        cells.extend(self.mapped.then(|| "mapped".to_owned()));
        cells.push(self.marked("peak", ""));
        let contexts = forecast.loads.first().map_or(&[][..], |load| &load.contexts);
        cells.extend(contexts.iter().map(|context| self.marked(&format!("at {}", positions(context.positions)), "")));
        cells.push("fits".to_owned());
        cells
    }

    fn row(&self, forecast: &MemoryForecast, load: &LoadForecast) -> Vec<String> {
        let several = forecast.loads.len() > 1;
        let name = format!("{}{}", load.name, if load.selected && several { " *" } else { "" });
        let mut cells = vec![name, units::bytes(load.weight_bytes)];
        cells.extend(self.quantized.then(|| units::bytes(load.quantized_bytes)));
        cells.extend(self.mapped.then(|| units::bytes(load.mapped_bytes)));
        cells.push(self.marked(&units::bytes(load.peak_bytes), mark(load.loading)));
        let total = |context: &ContextForecast| self.marked(&units::bytes(context.total_bytes), mark(context.fit));
        cells.extend(load.contexts.iter().map(total));
        cells.push(verdict(forecast, load));
        cells
    }

    /// A number and its mark, padded if other rows have marks.
    fn marked(&self, number: &str, mark: &str) -> String {
        match (self.marks, mark) {
            (false, _) => number.to_owned(),
            (true, "") => format!("{number}  "),
            (true, mark) => format!("{number}{mark}"),
        }
    }
}

fn fits(load: &LoadForecast) -> impl Iterator<Item = Fit> {
    std::iter::once(load.loading).chain(load.contexts.iter().map(|context| context.fit))
}

fn mark(fit: Fit) -> &'static str {
    match fit {
        Fit::Evicting { .. } => EVICTING,
        Fit::TooLarge { .. } => TOO_LARGE,
        _ => "",
    }
}

/// The table's last column.
fn verdict(forecast: &MemoryForecast, load: &LoadForecast) -> String {
    let limit = forecast.max_position_embeddings;
    let up_to = |largest: usize| format!("up to {} tokens", units::grouped(largest as u64));
    let all = load.contexts.iter().all(|context| matches!(context.fit, Fit::Fits { .. }));
    match (load.loading, load.largest_context, load.largest_evicting_context) {
        (Fit::Unknown, ..) => "unknown".to_owned(),
        (Fit::TooLarge { excess_bytes }, ..) => format!("no, {} too large", units::bytes(excess_bytes)),
        (_, Some(largest), _) if largest > 0 && limit == Some(largest) && all => "yes".to_owned(),
        (_, Some(largest), _) if largest > 0 => up_to(largest),
        (Fit::Fits { .. }, None, _) => "yes".to_owned(),
        (_, _, Some(0)) => "to load, without any context".to_owned(),
        (_, _, Some(largest)) if limit != Some(largest) => format!("evicting, {}", up_to(largest)),
        _ => "evicting".to_owned(),
    }
}

fn notes(forecast: &MemoryForecast) -> Vec<String> {
    let any = |wanted: &str| forecast.loads.iter().flat_map(fits).any(|fit| mark(fit) == wanted);
    let mut notes = Vec::new();
    let mut note = |text: &str| notes.push(text.to_owned());
    if forecast.loads.len() > 1 && forecast.loads.iter().any(|load| load.selected) {
        note("*        the load with these options");
    }
    if forecast.loads.iter().any(|load| load.mapped_bytes > 0) {
        note("mapped   weights that stay in the files: page cache, which the system can evict and read again");
    }
    note("peak     maximum while loading");
    if forecast.loads.iter().any(|load| !load.contexts.is_empty()) {
        note("at N     weights and KV cache of N tokens, without activations");
    } else {
        note("The KV cache of a custom implementation is unknown.");
    }
    if any(EVICTING) {
        note("~        fits only if pages of the mapped files are evicted and read again from disk");
    }
    if any(TOO_LARGE) {
        note("!        does not fit");
    }
    if let Some(limit) = forecast.max_position_embeddings {
        let longest = forecast.loads.iter().flat_map(|load| &load.contexts).map(|context| context.positions).max();
        if longest.is_some_and(|longest| longest > limit) {
            notes.push(format!("The model has {} positions.", units::grouped(limit as u64)));
        }
    }
    notes
}

/// `4k`, `1M` or `40,000`.
fn positions(number: usize) -> String {
    match number {
        0 => "0".to_owned(),
        number if number.is_multiple_of(1 << 20) => format!("{}M", number >> 20),
        number if number.is_multiple_of(1 << 10) => format!("{}k", number >> 10),
        number => units::grouped(number as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_context_are_short() {
        let cases = [(64, "64"), (1024, "1k"), (40_960, "40k"), (131_072, "128k"), (1 << 20, "1M"), (10_000, "10,000")];
        for (number, text) in cases {
            assert_eq!(positions(number), text);
        }
    }
}
