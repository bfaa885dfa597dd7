# limma on M-values: limma.R FOLDER FORMULA COEFFICIENT; uncovered sites are missing values.
suppressPackageStartupMessages(library(limma))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
source(file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "counts.R"))
counts <- read_counts(folder)
robust <- requireNamespace("statmod", quietly = TRUE)
seconds <- seconds_of({
  values <- log2((counts$methylated + 1) / (counts$coverage - counts$methylated + 1))
  values[counts$coverage == 0] <- NA
  design <- model.matrix(as.formula(arguments[2]), counts$sheet)
  p <- rep(NA_real_, nrow(values))
  # Sites that say nothing of the coefficient would only give warnings.
  kept <- rowSums(!is.na(values)) > ncol(design)
  fit <- suppressWarnings(eBayes(lmFit(values[kept, ], design), trend = TRUE, robust = robust))
  p[kept] <- fit$p.value[, arguments[3]]
})
write_p(folder, "limma", p)
tell("limma", seconds)
