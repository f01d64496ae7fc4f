//! A start's phases as a picture: one row a phase, on one scale for all runtimes.

use super::{Phase, Start};

const ROW: f64 = 20.0;
const LABELS: f64 = 230.0;
const BARS: f64 = 620.0;
const VALUES: f64 = 90.0;
const HEAD: f64 = 46.0;

/// Colours by who works: containerd, the shim and the VMM, the guest.
const CONTAINERD: &str = "#8a8f98";
const HOST: &str = "#2f6fb0";
const GUEST: &str = "#d08a26";

fn colour(what: &str) -> &'static str {
    let guest = ["guest", "process", "network"];
    if what.starts_with("containerd") || what.chars().next().is_some_and(char::is_uppercase) {
        if what.starts_with("VMM") { HOST } else { CONTAINERD }
    } else if guest.iter().any(|word| what.contains(word)) {
        GUEST
    } else {
        HOST
    }
}

fn text(x: f64, y: f64, attributes: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escaped(content))
}

fn escaped(content: &str) -> String {
    content.replace('&', "&amp;").replace('<', "&lt;")
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
    let rows: usize = starts.iter().map(|start| start.phases.len() + 2).sum();
    let bottom = HEAD + ROW * f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    let scale = BARS / longest;
    let (width, height) = (LABELS + BARS + VALUES, bottom + 10.0);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let title = format!("Pod start, request to running (seconds; one is {clock})");
    picture += &text(10.0, 18.0, "font-size=\"15\"", &title);
    picture += &lines(longest, scale, bottom);
    let mut y = HEAD;
    for start in starts {
        y += ROW;
        let heading = format!("{}: {:.3} s", start.who, start.seconds());
        picture += &text(10.0, y - 5.0, "font-weight=\"bold\"", &heading);
        for phase in &start.phases {
            picture += &row(phase, y, scale);
            y += ROW;
        }
        y += ROW;
    }
    picture + "</svg>\n"
}

fn row(phase: &Phase, y: f64, scale: f64) -> String {
    let Phase { what, begin, end } = phase;
    let (x, width) = (LABELS + begin * scale, ((end - begin) * scale).max(1.0));
    let bar = format!(
        "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\n",
        y + 3.0,
        ROW - 6.0,
        colour(what)
    );
    let value = format!("{:.1} ms", (end - begin) * 1000.0);
    text(10.0, y + 14.0, "", what) + &bar + &text(x + width + 5.0, y + 14.0, "", &value)
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
        let label = format!("{}", (at * 1000.0).round() / 1000.0);
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
        let phases = vec![
            Phase { what: "guest: kernel & agent".into(), begin: 0.0, end: 1.0 },
            Phase { what: "containerd: answered".into(), begin: 1.0, end: 1.5 },
        ];
        let picture = draw(&[Start { who: "cuddy".into(), phases }], "wall clock");
        assert_eq!(picture.matches(" fill=\"#d08a26\"").count(), 1);
        assert_eq!(picture.matches(" fill=\"#8a8f98\"").count(), 1);
        assert!(picture.contains("kernel &amp; agent"));
        assert!(
            picture.contains("x=\"643.3\"") && picture.contains("width=\"206.7\""),
            "{picture}"
        );
    }
}
