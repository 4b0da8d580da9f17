//! Markdown tables, and figures in them.

/// Columns are aligned to the right, but for the first.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    let rules = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" });
    text.push_str(&line(&rules.map(str::to_owned).collect::<Vec<_>>()));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// `value` to three digits, `-` if there is none.
pub fn figure(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// `value`, and in brackets its ratio to `ours`. Ours itself has no ratio.
pub fn with_ratio(value: Option<f64>, ours: Option<f64>) -> String {
    match (value, ours) {
        (Some(value), Some(ours)) if ours > 0.0 => format!("{} ({})", figure(Some(value)), figure(Some(value / ours))),
        _ => figure(value),
    }
}

/// `part` of `whole` in per cent.
pub fn share(part: Option<f64>, whole: Option<f64>) -> String {
    match (part, whole) {
        (Some(part), Some(whole)) if whole > 0.0 => format!("{:.0} %", 100.0 * part / whole),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.0123, 0.99951, 1.234, 9.994, 9.996, 56.54, 99.96, 4335.2].map(|value| figure(Some(value)));
        assert_eq!(figures, ["0.012", "1.00", "1.23", "9.99", "10.0", "56.5", "100", "4335"]);
        assert_eq!(figure(None), "-");
    }

    #[test]
    fn ratios_are_to_ours() {
        assert_eq!(with_ratio(Some(30.0), Some(20.0)), "30.0 (1.50)");
        assert_eq!(with_ratio(Some(30.0), None), "30.0");
        assert_eq!(with_ratio(Some(30.0), Some(0.0)), "30.0");
        assert_eq!(with_ratio(None, Some(20.0)), "-");
        assert_eq!(share(Some(9.0), Some(12.0)), "75 %");
        assert_eq!(share(Some(9.0), None), "-");
    }

    #[test]
    fn tables_are_markdown() {
        let rows = [vec!["x".to_owned(), "1".to_owned()]];
        assert_eq!(markdown(&["", "load s"], &rows), "|  | load s |\n| --- | ---: |\n| x | 1 |\n");
    }
}
