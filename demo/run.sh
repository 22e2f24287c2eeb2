#!/bin/sh
# The demonstration: a drive through a made-up street, training on it without labels, evaluation, prediction.
# Every step is a command of the project, echoed as it runs; on real data the same commands take other paths.
set -eu

DEMO=${DEMO:-tmp/demo}
DRIVE=$DEMO/drive
SPLIT=$DRIVE/splits/synthetic
RUN=$DEMO/run
WEIGHTS=$RUN/models
CORES=$(nproc 2>/dev/null || echo 2)

step() {
    printf '\n$ %s\n' "$*"
    "$@"
}

step python -m demo.street --out "$DRIVE"

# Small pictures, a light pose network, and a nearest depth of 0.03: motion from random weights is tiny, and this unit of
# depth gives it enough effect for the two networks to find each other (docs/learning.md tells what else was tried).
step python train.py --data_path "$DRIVE" --split "$SPLIT" --log_dir "$DEMO" --model_name run \
    --model lite-mono-tiny --width 320 --height 96 --batch_size 6 --num_epochs 4 \
    --lr 1e-4 1e-5 5 3e-4 1e-5 5 --min_depth 0.03 --drop_path 0 \
    --pose_model_type posecnn --weights_init scratch --num_workers 1 --log_frequency 50 --save_start

step python -m demo.baselines --data_path "$DRIVE" --split "$SPLIT" --json "$DEMO/baselines.json"
step python evaluate_depth.py --load_weights_folder "$WEIGHTS" --all --data_path "$DRIVE" --eval_split "$SPLIT" \
    --model lite-mono-tiny --num_workers "$CORES" --json "$DEMO/evaluation.json"
step python test_simple.py --load_weights_folder "$WEIGHTS/weights_3" --model lite-mono-tiny \
    --image_path "$DRIVE/2000_01_01/2000_01_01_drive_0005_sync/image_02/data" --output_dir "$DEMO/predictions"
step python -m demo.contact_sheet --data_path "$DRIVE" --split "$SPLIT" --model lite-mono-tiny \
    --before "$WEIGHTS/weights_start" --after "$WEIGHTS/weights_3" --out "$DEMO/contact_sheet.png"
step python -m demo.summary --baselines "$DEMO/baselines.json" --evaluation "$DEMO/evaluation.json" \
    --before weights_start --after weights_3

cat <<END

The pictures:     $DEMO/contact_sheet.png and $DEMO/predictions/
The weights:      $WEIGHTS/weights_3
The run's curves: tensorboard --logdir $RUN
END
