//! Lists of texts, with those that follow from their neighbours left out.

/// Shortest run whose numbers are shown as a progression.
const RUN: usize = 3;

/// Indexes that have the same entry, in the order of the first of each.
pub fn alike<T: PartialEq>(entries: Vec<T>) -> Vec<(T, Vec<usize>)> {
    let mut distinct: Vec<(T, Vec<usize>)> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        match distinct.iter_mut().find(|(known, _)| *known == entry) {
            Some((_, members)) => members.push(index),
            None => distinct.push((entry, vec![index])),
        }
    }
    distinct
}

/// `0-4, 6-10`.
pub fn ranges(members: &[usize]) -> String {
    let runs = members.chunk_by(|a, b| a + 1 == *b);
    let text = |run: &[usize]| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run[0].to_string(),
    };
    runs.map(text).collect::<Vec<_>>().join(", ")
}

/// Neighbours that are equal are counted, and those whose numbers proceed in equal steps become one text:
/// `h.{0, 1 .. 11}.bias`. No information is lost.
pub fn runs(texts: &[String]) -> Vec<String> {
    let parts: Vec<Parts> = texts.iter().map(|text| Parts::of(text)).collect();
    let mut found = Vec::new();
    let mut start = 0;
    while start < texts.len() {
        let end = end_of_run(&parts, start);
        let is_constant = texts[start..end].iter().all(|text| *text == texts[start]);
        if end - start > 1 && is_constant {
            found.push(format!("{} x {}", end - start, texts[start]));
        } else if end - start >= RUN {
            found.push(parts[start].progression(&parts[start + 1], &parts[end - 1]));
        } else {
            found.push(texts[start].clone());
            start += 1;
            continue;
        }
        start = end;
    }
    found
}

fn end_of_run(parts: &[Parts], start: usize) -> usize {
    let Some(steps) = parts.get(start + 1).and_then(|next| parts[start].steps(next)) else { return start + 1 };
    let mut end = start + 2;
    while end < parts.len() && parts[end - 1].steps(&parts[end]).as_ref() == Some(&steps) {
        end += 1;
    }
    end
}

/// A text as numbers and the text between them: one more text than numbers.
struct Parts {
    between: Vec<String>,
    numbers: Vec<i64>,
}

impl Parts {
    fn of(text: &str) -> Self {
        let mut parts = Self { between: vec![String::new()], numbers: Vec::new() };
        for piece in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
            let digits = piece.trim_end_matches(|c: char| !c.is_ascii_digit());
            let rest = &piece[digits.len()..];
            // `007` would not come back as it was.
            match digits.parse::<i64>().ok().filter(|number| number.to_string() == digits) {
                Some(number) => {
                    parts.numbers.push(number);
                    parts.between.push(rest.to_owned());
                }
                None => parts.between.last_mut().unwrap().push_str(piece),
            }
        }
        parts
    }

    /// How much each number grows to the next text, if the rest is the same.
    fn steps(&self, next: &Self) -> Option<Vec<i64>> {
        let steps = self.numbers.iter().zip(&next.numbers).map(|(number, next)| next - number);
        (self.between == next.between).then(|| steps.collect())
    }

    fn progression(&self, second: &Self, last: &Self) -> String {
        let mut text = self.between[0].clone();
        for (index, number) in self.numbers.iter().enumerate() {
            let (second, last) = (second.numbers[index], last.numbers[index]);
            if *number == last {
                text.push_str(&number.to_string());
            } else {
                text.push_str(&format!("{{{number}, {second} .. {last}}}"));
            }
            text.push_str(&self.between[index + 1]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collapsed(texts: &[&str]) -> Vec<String> {
        runs(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn equal_steps_become_one_text() {
        assert_eq!(collapsed(&["h.0.b 0", "h.1.b 8", "h.2.b 16"]), ["h.{0, 1 .. 2}.b {0, 8 .. 16}"]);
        assert_eq!(collapsed(&["a 5", "a 5", "b"]), ["2 x a 5", "b"]);
        assert_eq!(collapsed(&["a 1", "a 2"]), ["a 1", "a 2"]);
    }

    #[test]
    fn one_text_that_differs_shows() {
        let texts = |changed: usize, text: &str| {
            let mut texts: Vec<String> = (0..8).map(|index| format!("experts.{index}.w1 [32, 16]")).collect();
            texts[changed] = text.to_owned();
            runs(&texts)
        };
        let whole = texts(3, "experts.3.w1 [32, 16]");
        assert_eq!(whole, ["experts.{0, 1 .. 7}.w1 [32, 16]"]);
        for changed in 0..8 {
            for text in ["experts.9.w1 [32, 16]".to_owned(), format!("experts.{changed}.w2 [32, 16]"), "007".to_owned()]
            {
                let found = texts(changed, &text);
                assert!(found != whole && found.iter().any(|line| line.contains(&text)), "{found:?}");
            }
        }
    }

    #[test]
    fn equal_entries_are_found_wherever_they_are() {
        assert_eq!(alike(vec!["a", "b", "a", "a"]), [("a", vec![0, 2, 3]), ("b", vec![1])]);
        assert_eq!(ranges(&[0, 2, 3, 4, 7, 8]), "0, 2-4, 7-8");
    }
}
