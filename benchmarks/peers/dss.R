# DSS: dss.R FOLDER two CORES, or dss.R FOLDER multi FORMULA COEFFICIENT
# Two groups with smoothing, as its manual advises for whole genomes; several factors as in its
# manual's example, without, as its default is; regions by callDMR's defaults.
suppressPackageStartupMessages(library(DSS))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
source(file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "counts.R"))
counts <- read_counts(folder)
data <- as_bsseq(counts)
seconds <- seconds_of({
  if (arguments[2] == "two") {
    names <- as.character(counts$sheet$sample)
    found <- DMLtest(data,
      group1 = names[counts$sheet$g == "a"], group2 = names[counts$sheet$g == "b"],
      smoothing = TRUE, ncores = as.integer(arguments[3])
    )
    p <- found$pval
  } else {
    fit <- DMLfit.multiFactor(data,
      design = counts$sheet, formula = as.formula(arguments[3])
    )
    found <- DMLtest.multiFactor(fit, coef = arguments[4])
    p <- found$pvals
  }
  regions <- lapply(c(1e-3, 1e-5), function(cut) {
    suppressWarnings(callDMR(found, p.threshold = cut))
  })
})
name <- if (arguments[2] == "two") "dss" else "dss_multi"
all <- rep(NA_real_, length(counts$position))
all[match(found$pos, counts$position)] <- p
write_p(folder, name, all)
for (k in 1:2) {
  called <- regions[[k]]
  # callDMR gives NULL where it calls nothing; positions are 0-based here, its ends inclusive.
  if (is.null(called)) called <- data.frame(start = integer(), end = integer(), areaStat = numeric())
  write_regions(
    folder, paste0(name, c("_1e-3", "_1e-5")[k]), called$start, called$end + 1, abs(called$areaStat)
  )
}
tell("DSS", seconds)
