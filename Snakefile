include: "workflow/Snakefile"


# Snakemake takes no default target from an included file
rule everything:
    default_target: True
    input:
        rules.all.input,
