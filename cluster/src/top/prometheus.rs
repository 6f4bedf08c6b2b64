//! vLLM's `/metrics`: the few figures that are shown.

use serde::Serialize;

/// What vLLM counts, all its engines together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    pub generated_tokens: f64,
    pub prompt_tokens: f64,
    pub running: f64,
    pub waiting: f64,
    /// The share of the cache that is in use.
    pub cache_percent: f64,
}

impl Figures {
    /// Reads the text format; none if vLLM's figures are not in it.
    pub fn read(text: &str) -> Option<Self> {
        let mut figures = Self::default();
        let mut found = false;
        for line in text.lines().filter(|line| line.starts_with("vllm:")) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()) else {
                continue;
            };
            let place = match name {
                "vllm:generation_tokens_total" => &mut figures.generated_tokens,
                "vllm:prompt_tokens_total" => &mut figures.prompt_tokens,
                "vllm:num_requests_running" => &mut figures.running,
                "vllm:num_requests_waiting" => &mut figures.waiting,
                "vllm:kv_cache_usage_perc" => {
                    figures.cache_percent = figures.cache_percent.max(value * 100.0);
                    continue;
                }
                _ => continue,
            };
            *place += value;
            found = true;
        }
        found.then_some(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vllm_prints_is_read_and_anything_else_is_not() {
        let text = "# HELP vllm:num_requests_running Number of requests.\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"/m o\"} 2.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"/m o\"} 1.0\n\
            vllm:generation_tokens_total{engine=\"0\"} 1234.0\n\
            vllm:generation_tokens_created{engine=\"0\"} 1.7e+09\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n\
            vllm:prompt_tokens_total{engine=\"0\"} nonsense\n";
        let figures = Figures::read(text).unwrap();
        assert_eq!((figures.running, figures.generated_tokens), (3.0, 1234.0));
        assert_eq!((figures.cache_percent, figures.prompt_tokens), (25.0, 0.0));
        assert_eq!(Figures::read("<html>not found</html>"), None);
    }
}
