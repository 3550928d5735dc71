// optnet's public interface.
#pragma once

#include "framework/data.h"
#include "framework/files.h"
#include "framework/fit.h"
#include "framework/gradcheck.h"
#include "framework/io.h"
#include "framework/ops.h"
#include "framework/optim.h"
#include "framework/train.h"
#include "layers/images.h"
#include "layers/init.h"
#include "layers/layers.h"
#include "layers/norm.h"
#include "layers/optnet.h"
#include "layers/projections.h"
#include "layers/summary.h"
#include "solvers/qp.h"
