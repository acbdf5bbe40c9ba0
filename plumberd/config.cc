#include "plumberd/config.hh"

#include <malloc.h>

#include <deque>

#include "plumberd/config_files.hh"
#include "plumberd/draft.hh"

namespace plumberd {
namespace {
/// One file in two readings: its helpers come first, since they say which schemes rules may name.
struct Reading {
  Document document;
  Fields root;
  Reading(Draft& draft, const SourceText& source)
      : document{parse_document(source, draft.report)},
        root{document, document.root, "the configuration", draft.report} {}
};

void read_parts(Draft& draft, Reading& reading) {
  read_rules(draft, reading.document, reading.root);
  read_settings(draft, reading.document, reading.root);
  read_routing(draft, reading.document, reading.root);
  read_listens(draft, reading.document, reading.root);
  read_profiles(draft, reading.document, reading.root);
  reading.root.finish();
}

Loaded load_sources(Draft draft, const std::deque<SourceText>& sources, const Arguments& arguments) {
  std::deque<Reading> readings;
  for (const auto& source : sources) {
    auto& reading = readings.emplace_back(draft, source);
    read_helpers(draft, reading.document, reading.root);
    draft.config.files.push_back(source.name());
  }
  read_arguments(draft, arguments);
  for (auto& reading : readings) read_parts(draft, reading);
  finish(draft);
  Loaded loaded;
  const bool good = !draft.report.any_error();
  loaded.diagnostics = draft.report.take();
  for (const auto& diagnostic : loaded.diagnostics)
    if (diagnostic.warning) draft.config.warnings.push_back(diagnostic.print());
  if (good) loaded.config = std::make_shared<Config>(std::move(draft.config));
  return loaded;
}
}  // namespace

Loaded load_text(std::string_view toml, std::string_view file, const Arguments& arguments,
                 Strictness strictness) {
  std::deque<SourceText> sources;
  sources.emplace_back(std::string(file), std::string(toml));
  return load_sources(Draft{strictness}, sources, arguments);
}

Loaded load(const Arguments& arguments, Strictness strictness) {
  Draft draft{strictness};
  draft.looks_around = true;
  std::deque<SourceText> sources;
  for (const auto& file : arguments.config ? std::vector{*arguments.config} : default_config_files()) {
    auto text = read_config_file(file);
    if (!text)
      draft.report.file_error(file, std::move(text.error().text));
    else
      sources.emplace_back(file, std::move(*text));
  }
  auto loaded = load_sources(std::move(draft), sources, arguments);
  sources.clear();
  ::malloc_trim(0);  // a large file leaves many times its size behind
  return loaded;
}
}  // namespace plumberd
