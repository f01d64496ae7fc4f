//! What a terminal shows of a pull: a bar for each layer, below a line that it goes on. Where there
//! is no terminal, nothing is shown.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use protocol::node::Layer;

/// The line of the whole pull.
const HEAD: &str = "{spinner} pulling {msg} ({elapsed})";

/// The line of a layer on its way.
const COMING: &str = "  {prefix} {bar:30} {binary_bytes}/{binary_total_bytes}";

/// The line of a layer that is here.
const HERE: &str = "  {prefix} {msg}";

/// Digits of a digest that are shown.
const DIGITS: usize = 12;

/// The bars of one pull.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    head: ProgressBar,
    layers: Vec<ProgressBar>,
}

impl Bars {
    /// Shows that an image is being pulled, unless `quiet`.
    pub(crate) fn new(image: &str, quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            // It shows nothing where there is no terminal.
            false => ProgressDrawTarget::stderr(),
        };
        let all = MultiProgress::with_draw_target(target);
        let head = all.add(ProgressBar::new_spinner());
        head.set_style(style(HEAD));
        head.set_message(image.to_owned());
        head.enable_steady_tick(Duration::from_millis(100));
        Self { all, head, layers: Vec::new() }
    }

    /// Shows how far the layers are.
    pub(crate) fn show(&mut self, layers: &[Layer]) {
        for layer in layers.iter().skip(self.layers.len()) {
            let bar = self.all.add(ProgressBar::new(layer.size));
            bar.set_style(style(COMING));
            bar.set_prefix(short(&layer.digest));
            self.layers.push(bar);
        }
        for (bar, layer) in self.layers.iter().zip(layers) {
            if bar.is_finished() {
                continue;
            }
            bar.set_position(layer.received);
            if layer.done {
                bar.set_style(style(HERE));
                bar.finish_with_message(end(layer));
            }
        }
    }

    /// Shows nothing any more.
    pub(crate) fn end(self) {
        self.layers.iter().for_each(ProgressBar::finish_and_clear);
        self.head.finish_and_clear();
        // Nothing but a terminal that has gone could be wrong.
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The first digits of a digest (pure). It is the daemon's word: nothing acts on the terminal.
fn short(digest: &str) -> String {
    let digits = digest.rsplit(':').next().unwrap_or_default();
    digits.chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect()
}

/// What is said of a layer that is here (pure).
fn end(layer: &Layer) -> &'static str {
    if layer.received == 0 { "is here already" } else { "is here" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shown_by_their_first_digits() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("sha256:\u{1b}[2J01"), "201");
        assert_eq!(short(""), "");
    }

    #[test]
    fn every_style_is_one_of_the_library() {
        for template in [HEAD, COMING, HERE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn bars_follow_what_is_told() {
        let layer = |received, done| Layer { digest: "sha256:aa".into(), size: 9, received, done };
        let mut bars = Bars::new("x", true);
        bars.show(&[]);
        bars.show(&[layer(3, false), layer(0, true)]);
        let at: Vec<_> =
            bars.layers.iter().map(|bar| (bar.position(), bar.is_finished())).collect();
        assert_eq!(at, [(3, false), (9, true)]);
        assert_eq!(bars.layers[1].message(), "is here already");
        bars.show(&[layer(9, true), layer(0, true)]);
        assert_eq!(bars.layers[0].message(), "is here");
        bars.end();
    }
}
