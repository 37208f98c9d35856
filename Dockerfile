# docker build --tag irpipe . && docker run --rm --gpus all --volume "$PWD/results:/irpipe/results" irpipe --resources gpu=1
# apptainer build irpipe.sif docker-daemon://irpipe:latest && apptainer run --nv --pwd /irpipe --writable-tmpfs irpipe.sif
FROM python:3.11-slim
WORKDIR /irpipe
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt --editable .
ENTRYPOINT ["snakemake", "--cores", "all"]
