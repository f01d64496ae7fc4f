//! A start's phases as a picture: one row a phase, on one scale for all runtimes.

use super::{By, Phase, Start};

const ROW: f64 = 20.0;
const LABELS: f64 = 230.0;
const BARS: f64 = 640.0;
const VALUES: f64 = 80.0;
/// Title, what the colours mean, and the numbers of the scale.
const HEAD: f64 = 84.0;

const ALL: [By; 4] = [By::Call, By::Server, By::Host, By::Guest];

impl By {
    fn colour(self) -> &'static str {
        match self {
            Self::Call => "#3f444c",
            Self::Server => "#a9b0ba",
            Self::Host => "#2f6fb0",
            Self::Guest => "#d08a26",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Call => "call of CRI",
            Self::Server => "server and CNI",
            Self::Host => "shim and VMM",
            Self::Guest => "guest",
        }
    }
}

fn text(x: f64, y: f64, attributes: &str, content: &str) -> String {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{content}</text>\n")
}

fn bar(x: f64, y: f64, width: f64, by: By) -> String {
    let (height, colour) = (ROW - 6.0, by.colour());
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
         fill=\"{colour}\"/>\n"
    )
}

/// Distance of the scale's lines in seconds: 1, 2 or 5 of a power of ten, at most ten of them.
fn distance(longest: f64) -> f64 {
    let mut step = 0.001;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if longest / step <= 10.0 {
            break;
        }
        step *= factor;
    }
    step
}

/// The picture, as an SVG document.
pub(super) fn draw(starts: &[Start], clock: &str) -> String {
    let longest = starts.iter().map(Start::seconds).fold(0.001, f64::max);
    let rows: usize = starts.iter().map(|one| one.calls.len() + one.steps.len() + 2).sum();
    let bottom = HEAD + ROW * f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    let scale = BARS / longest;
    let (width, height) = (LABELS + BARS + VALUES, bottom);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    picture += &text(10.0, 22.0, "font-size=\"16\"", "Pod start, request to running");
    let unit = format!("one second is {clock}");
    picture += &text(width - 10.0, 22.0, "text-anchor=\"end\" fill=\"#666666\"", &unit);
    picture += &meanings();
    picture += &lines(longest, scale, bottom - ROW);
    let mut y = HEAD;
    for start in starts {
        let heading = format!("{}: {:.1} ms", start.who, start.seconds() * 1000.0);
        picture += &text(10.0, y + 14.0, "font-weight=\"bold\"", &heading);
        for phase in start.calls.iter().chain(&start.steps) {
            y += ROW;
            picture += &row(phase, y, scale);
        }
        y += 2.0 * ROW;
    }
    picture + "</svg>\n"
}

/// What the colours mean.
fn meanings() -> String {
    let mut found = String::new();
    let mut x = LABELS;
    for by in ALL {
        found += &bar(x, 36.0, ROW - 6.0, by);
        found += &text(x + ROW, 47.0, "", by.meaning());
        x += 150.0;
    }
    found
}

fn row(phase: &Phase, y: f64, scale: f64) -> String {
    let &Phase { what, by, begin, end } = phase;
    let (x, width) = (LABELS + begin * scale, ((end - begin) * scale).max(1.0));
    let indent = if by == By::Call { 20.0 } else { 32.0 };
    let value = format!("{:.1} ms", (end - begin) * 1000.0);
    text(indent, y + 14.0, "", what)
        + &bar(x, y + 3.0, width, by)
        + &text(x + width + 5.0, y + 14.0, "", &value)
}

/// The scale.
fn lines(longest: f64, scale: f64, bottom: f64) -> String {
    let step = distance(longest);
    let mut found = String::new();
    let mut at = 0.0;
    while at <= longest {
        let x = LABELS + at * scale;
        found += &format!(
            "<line x1=\"{x:.1}\" y1=\"{HEAD}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" \
             stroke=\"#dddddd\"/>\n"
        );
        let label = format!("{} s", (at * 1000.0).round() / 1000.0);
        found += &text(x, HEAD - 6.0, "text-anchor=\"middle\" fill=\"#666666\"", &label);
        at += step;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_at_round_numbers() {
        assert_eq!(distance(0.009), 0.001);
        assert_eq!(distance(0.9), 0.1);
        assert_eq!(distance(4.2), 0.5);
    }

    #[test]
    fn every_phase_has_a_bar_within_the_picture() {
        let phase = |what, by, begin, end| Phase { what, by, begin, end };
        let start = Start {
            who: "cuddy",
            calls: vec![phase("RunPodSandbox", By::Call, 0.0, 1.5)],
            steps: vec![
                phase("kernel & agent", By::Guest, 0.0, 1.0),
                phase("answered", By::Server, 1.0, 1.5),
            ],
        };
        let picture = draw(&[start], "wall clock");
        // One of the bars tells what the colour means.
        for by in [By::Call, By::Guest, By::Server] {
            assert_eq!(picture.matches(&format!("fill=\"{}\"", by.colour())).count(), 2);
        }
        assert!(picture.contains("kernel &amp; agent"));
        assert!(
            picture.contains("x=\"656.7\"") && picture.contains("width=\"213.3\""),
            "{picture}"
        );
    }
}
