# A module: from training to records, for the suite as it is trained with another seed. Data are the same for all seeds.
SUITE = config["suite"]


include: "objects.smk"
include: "experts.smk"
include: "merging.smk"
include: "quantization.smk"
include: "evaluation.smk"
